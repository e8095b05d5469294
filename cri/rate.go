package cri

import (
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

const (
	// rateWindow is the least time between two samples of a rate: figures that are
	// read more often repeat the last one instead of showing noise.
	rateWindow = time.Second
	// maxRates bounds the objects whose last sample is remembered.
	maxRates = 8192
)

// rates turns counters of CPU time into the cores in use since the sample before,
// as cAdvisor does: a first reading has no rate.
type rates struct {
	mu   *sync.Mutex // guards last
	last map[pod.ID]sample
}

type sample struct {
	at    int64 // nanoseconds
	usage uint64
	rate  uint64 // nanocores
	known bool
}

func newRates() rates { return rates{mu: &sync.Mutex{}, last: map[pod.ID]sample{}} }

// observe records usage, in nanoseconds of CPU time at the moment at, and returns
// the rate in nanocores.
func (r rates) observe(id pod.ID, at int64, usage uint64) (rate uint64, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, seen := r.last[id]
	elapsed := at - old.at
	switch {
	case seen && elapsed < int64(rateWindow):
		return old.rate, old.known
	case seen && usage >= old.usage:
		rate, known = uint64(float64(usage-old.usage)/float64(elapsed)*1e9), true
	case !seen && len(r.last) >= maxRates:
		r.makeRoom()
	}
	r.last[id] = sample{at, usage, rate, known}
	return rate, known
}

// makeRoom forgets the older half.
func (r rates) makeRoom() {
	var newest, oldest int64
	for _, s := range r.last {
		newest = max(newest, s.at)
		if oldest == 0 || s.at < oldest {
			oldest = s.at
		}
	}
	middle := oldest + (newest-oldest)/2
	for id, s := range r.last {
		if s.at <= middle {
			delete(r.last, id)
		}
	}
}
