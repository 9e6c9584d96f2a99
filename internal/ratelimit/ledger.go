package ratelimit

// ledger is one day's book of one key: used + other + Σ leased never exceeds what the day allows.
//
// A holder (one pod has two, one of them for urgent) does not report changes but where it stands: how much it
// has spent today in all and what it holds now. A report that is lost, repeated or late thus does no harm;
// what a lost answer had granted is back with the next report.
type ledger struct {
	used    int64 // spent, and lapsed
	leased  int64 // Σ of the holders'
	other   int64 // spent by others on this account: what WeChat counted beyond ours at the last sync
	holders map[string]*holding
}

// holding is what the ledger knows of one holder.
type holding struct {
	seq    int64 // of its last report
	spent  int64
	leased int64
	lapsed int64 // leased until it fell silent for 30 s; counted in used, and taken back out if it returns
	until  int64
	// the answer to seq, for a call that the Redis client repeats
	tokens int64
	slots  slots
	n      int64
}

// lapse counts as used what silent holders hold.
func (l *ledger) lapse(now int64) {
	for _, h := range l.holders {
		if h.until != 0 && h.until <= now {
			l.used += h.leased
			l.leased -= h.leased
			h.lapsed += h.leased
			h.leased, h.until = 0, 0
		}
	}
}

// pods is how many holders leased lately; the one that asks is one of them.
func (l *ledger) pods(asking *holding) int64 {
	n := int64(0)
	for _, h := range l.holders {
		if h.until != 0 || h == asking {
			n++
		}
	}
	return n
}

// report books where a holder stands. Redis may have forgotten its last reports, or all of them. Where the key was
// rebuilt by WeChat's count (counted), that holds what was answered before, and only the rest is booked. An answer that
// is forgotten and came later was another master's (astray): then all is booked of which this one has not heard, some
// of it twice until WeChat is asked again.
func (l *ledger) report(r request, counted, astray bool) *holding {
	h := l.holders[r.holder]
	if h == nil {
		h = &holding{}
		l.holders[r.holder] = h
		if !astray {
			h.spent = r.acked
		}
	}
	if counted && !astray {
		h.spent = max(h.spent, r.acked)
	}
	l.used += r.spent - h.spent - h.lapsed
	l.leased += r.held - h.leased
	h.seq, h.spent, h.leased, h.lapsed = r.seq, r.spent, r.held, 0
	return h
}

// allowed is what a day with this limit allows a lane.
func (r request) allowed(limit int64) int64 {
	allowed := limit - limit*r.margin/1e6
	if !r.urgent {
		allowed -= limit * r.reserve / 1e6
	}
	return allowed
}

// grant gives a holder up to want tokens, and few where few are left, so that no pod sits on the last ones.
func (l *ledger) grant(want, left, pods int64) int64 {
	return max(0, min(want, left, max(1, left/(20*pods))))
}

// rebuild takes WeChat's count where Redis may have lost what it was told last. What it lost is counted for others',
// and all that is leased may still be spent.
func (l *ledger) rebuild(used int64) { l.other = max(l.other, used-l.used) }

// mark says what is ours for certain, before WeChat is asked: what the dead held may be spent or not, and is left to its count.
func (l *ledger) mark() int64 {
	ours := l.used
	for _, h := range l.holders {
		ours -= h.lapsed
	}
	return ours
}

// sync takes WeChat's own count. In it stands what was ours at the mark, and some of what was reported since and of what
// holders hold, spent and not reported yet. What others use is thus known within that; of the range it takes what is
// nearest to what was believed before, when tokens of the dead counted as spent.
func (l *ledger) sync(used, mark int64) {
	ours := l.mark()
	l.used, l.other = ours, l.other+l.used-ours
	for _, h := range l.holders {
		h.lapsed = 0
	}
	l.other = max(0, min(max(l.other, used-ours-l.leased), used-min(mark, ours)))
}
