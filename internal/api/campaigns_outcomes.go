package api

import (
	"bufio"
	"net/http"
	"time"
)

// exportOutcomes streams a line of CSV for each message. An answer that breaks off ends with its connection, so that nobody
// takes the part for the whole.
func (h *Handler) exportOutcomes(c *call) error {
	found, err := h.campaign(c, Read)
	if err != nil {
		return err
	}
	out := &steady{h: h, c: c, name: found.ID.String() + ".csv"}
	w := bufio.NewWriterSize(out, 64<<10)
	if err = h.options.Campaigns.Export(c.ctx(), found.ID, w); err == nil {
		err = w.Flush()
	}
	if err != nil && c.w.status != 0 {
		c.torn = true
	}
	return err
}

// steady writes an answer as long as its reader reads, each part for itself.
type steady struct {
	h    *Handler
	c    *call
	name string
}

func (s *steady) Write(p []byte) (int, error) {
	if s.c.w.status == 0 {
		s.c.w.Header().Set("Content-Type", "text/csv; charset=utf-8")
		s.c.w.Header().Set("Content-Disposition", `attachment; filename="`+s.name+`"`)
		s.c.w.WriteHeader(http.StatusOK)
	}
	_ = s.c.rc.SetWriteDeadline(time.Now().Add(s.h.options.Patience))
	return s.c.w.Write(p)
}
