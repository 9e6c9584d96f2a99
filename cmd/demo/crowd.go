package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A crowd is the audience that the demo makes for its campaign, and what an import must find in it.
type crowd struct {
	recipients []person
	refused    []int64          // lines that name nobody, or not as they should
	duplicates int              // rows whose openid stands above
	suppressed []message.OpenID // who refuse all messages, as earlier acts have shown
	lines      int64            // of the file, its first one included

	refusing, left, blocking []message.OpenID // of the recipients: WeChat will say so, not the ledger
}

// A person is one recipient's row.
type person struct {
	openid message.OpenID
	vars   []string
}

// Some of the crowd, by their number.
const (
	refusesEach   = 400  // has switched messages off: 43101
	leftEach      = 500  // has left, and the push was lost: 43004
	blocksEach    = 1000 // blocks the account, which only the receipt tells
	nobodyEach    = 5000 // is nobody's openid: 40003
	duplicateEach = 100  // stands in the file twice
	brokenEach    = 2500 // is followed by a row that is broken
)

// brokenRows are rows as they come out of spreadsheets and exports.
var brokenRows = []string{
	",没有编号,100,2026-12-12 23:59",
	"手机号13800000000,填错的列,100,2026-12-12 23:59",
	"oOnlyTheOpenID0000000000000001",
	`oQuoteNeverClosed000000000001,"陈晓芸`,
}

// crowd makes n recipients, like the rows of the campaign's audience, with openids and numbers of their own.
func (g *generator) crowd(n int, suppressed []message.OpenID) *crowd {
	c := &crowd{suppressed: suppressed}
	rows := g.examples.campaign.rows
	for i := range n {
		vars := slices.Clone(rows[i%len(rows)].Vars)
		for j, v := range vars {
			if number, err := strconv.Atoi(v); err == nil && number > 0 {
				vars[j] = fmt.Sprint(g.random.IntN(2 * number))
			}
		}
		p := person{g.user(), vars}
		c.recipients = append(c.recipients, p)
		switch {
		case i%refusesEach == 100:
			c.refusing = append(c.refusing, p.openid)
		case i%leftEach == 250:
			c.left = append(c.left, p.openid)
		case i%blocksEach == 300:
			c.blocking = append(c.blocking, p.openid)
		}
	}
	return c
}

// nobody says whether the i-th recipient is to be no user at all.
func nobody(i int) bool { return i%nobodyEach == 50 }

// followers are those whom the simulator is to know.
func (c *crowd) followers() []string {
	var all []string
	for i, p := range c.recipients {
		if !nobody(i) {
			all = append(all, string(p.openid))
		}
	}
	return all
}

// write writes the crowd into a file, with all that files have: rows that are broken, rows that come twice, people who
// want no more messages.
func (c *crowd) write(path string, columns []string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := csv.NewWriter(f)
	row := func(openid message.OpenID, vars []string) {
		_ = w.Write(append([]string{string(openid)}, vars...)) // Flush tells
		c.lines++
	}
	row("openid", columns)
	for i, p := range c.recipients {
		row(p.openid, p.vars)
		if i%duplicateEach == duplicateEach-1 {
			row(c.recipients[i-duplicateEach/2].openid, p.vars)
			c.duplicates++
		}
		if i%brokenEach == brokenEach/2 {
			w.Flush()
			broken := brokenRows[len(c.refused)%len(brokenRows)]
			if _, err := fmt.Fprintln(f, c.fitted(broken, len(columns))); err != nil {
				return err
			}
			c.lines++
			c.refused = append(c.refused, c.lines)
		}
	}
	for i, openid := range c.suppressed {
		row(openid, c.recipients[i].vars)
	}
	w.Flush()
	return w.Error()
}

// fitted gives a broken row as many values as the audience has, where it is not their number that is wrong.
func (*crowd) fitted(broken string, columns int) string {
	values := strings.Split(broken, ",")
	if len(values) < 3 {
		return broken
	}
	for len(values) <= columns {
		values = append(values, "")
	}
	return strings.Join(values[:columns+1], ",")
}
