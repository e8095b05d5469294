package cri

import (
	"context"
	"io"
	"slices"
	"sync"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// containerPage writes the table as text for Prometheus. Labels are encoded once per
// container and live as long as it is seen. Pages may be written side by side: nothing
// is held while a scraper reads.
type containerPage struct {
	mu     sync.Mutex // guards the rest
	labels map[pod.ID]encoded
	extras map[extra]telemetry.Labels
}

// encoded are the labels of a container or pod, and what they were made of.
type encoded struct {
	values []string
	labels telemetry.Labels
}

// extra is what a series has beside the labels of its container; the table has up to
// four keys.
type extra struct {
	family string
	values [4]string
}

// maxExtras bounds the label values that are kept encoded: devices and interfaces
// come and go.
const maxExtras = 4096

// pageItem is a subject with its encoded labels.
type pageItem struct {
	*subject
	encoded telemetry.Labels
}

// WriteContainerMetrics writes the page /metrics/containers: the figures of
// ListPodSandboxMetrics with fractions of seconds. See telemetry.ContainerMetrics.
func (s *Server) WriteContainerMetrics(w io.Writer) error {
	pods, err := s.podFigures(context.Background()) // a scrape in progress ends with its reading
	if err != nil {
		return err
	}
	var subjects []*subject
	for _, p := range pods {
		subjects = append(subjects, podSubject(p))
		for i := range p.Containers {
			subjects = append(subjects, containerSubject(p.Sandbox, &p.Containers[i]))
		}
	}
	return s.page.write(w, subjects)
}

func (p *containerPage) write(w io.Writer, subjects []*subject) error {
	items := p.encode(subjects)
	page := telemetry.Exposition{W: w}
	for _, f := range families {
		begun := false
		var item pageItem
		emit := func(raw uint64, values ...string) {
			if !begun { // a family that nobody has is not on the page
				page.Family(f.name, f.kind, f.help)
				begun = true
			}
			extra := p.extra(f, values)
			if f.unit == plain {
				page.Uint(item.encoded, extra, raw)
			} else {
				page.Sample(item.encoded, extra, float64(raw)/float64(f.unit))
			}
		}
		for _, item = range items {
			f.read(item.subject, emit)
		}
	}
	return page.Flush()
}

// encode finds or makes the labels, and forgets those of who is not there any more.
func (p *containerPage) encode(subjects []*subject) []pageItem {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.labels
	p.labels = make(map[pod.ID]encoded, len(subjects))
	items := make([]pageItem, 0, len(subjects))
	for _, s := range subjects {
		id := pod.ID(s.labels[1])
		e, known := old[id]
		if !known || !slices.Equal(e.values, s.labels) {
			e = encoded{s.labels, telemetry.EncodeLabels(pairs(baseLabels, s.labels)...)}
		}
		p.labels[id] = e
		items = append(items, pageItem{s, e.labels})
	}
	return items
}

func (p *containerPage) extra(f family, values []string) telemetry.Labels {
	if len(values) == 0 {
		return nil
	}
	key := extra{family: f.name}
	copy(key.values[:], values)
	p.mu.Lock()
	defer p.mu.Unlock()
	labels, known := p.extras[key]
	if !known {
		if p.extras == nil || len(p.extras) >= maxExtras {
			p.extras = map[extra]telemetry.Labels{}
		}
		labels = telemetry.EncodeLabels(pairs(f.keys, values)...)
		p.extras[key] = labels
	}
	return labels
}

func pairs(keys, values []string) []string {
	both := make([]string, 0, 2*len(keys))
	for i, key := range keys {
		both = append(both, key, values[i])
	}
	return both
}
