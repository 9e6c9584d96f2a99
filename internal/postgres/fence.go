package postgres

import (
	"strings"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// fence is the condition that makes an outcome count only under the message's last claim.
const fence = ` AND m.claim = i.claim`

// fenced is the statement with its fence; the fault suite takes it away to see that it would be missed.
func fenced(sql string) string {
	if !fault.Has(fault.Fence) {
		return strings.ReplaceAll(sql, fence, "")
	}
	return sql
}

// unclaimed says that the op writes, at once and for good, a message that was sent without a claim: what the
// benchmark compares the price of claims with.
func (o *op) unclaimed() bool {
	return !fault.Has(fault.Claim) && o.kind == opVerdict && o.out.Status == outcome.Sent
}
