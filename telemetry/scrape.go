package telemetry

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// MetricsHandler serves /metrics, the daemon's families (text, OpenMetrics with
// exemplars, or protobuf with native histograms, as the scraper asks), and
// /metrics/containers, what ContainerMetrics was given (text).
func (t *Telemetry) MetricsHandler() http.Handler {
	mux := http.NewServeMux()
	families := promhttp.HandlerFor(t.metrics.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, ErrorHandling: promhttp.ContinueOnError,
		ErrorLog: scrapeLog{t},
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		t.ended.settle()
		families.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /metrics/containers", func(w http.ResponseWriter, r *http.Request) {
		t.mu.Lock()
		write := t.containers
		t.mu.Unlock()
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		if write == nil {
			return
		}
		page := &page{to: w}
		err := write(page)
		if err == nil {
			err = page.flush()
		}
		if err != nil && page.gone == nil {
			t.Logger().WarnContext(r.Context(), "container metrics are incomplete", "cause", err)
			if page.begun {
				panic(http.ErrAbortHandler) // so that a failure is none of the answers, not half a page
			}
			http.Error(w, "container metrics cannot be read", http.StatusInternalServerError)
		}
	})
	return mux
}

// page holds the beginning of what is written, and passes the rest on: a node full of
// pods has more than one would hold.
type page struct {
	to    io.Writer
	held  []byte
	begun bool  // something has been passed on
	gone  error // the scraper is
}

func (p *page) Write(b []byte) (int, error) {
	if p.held = append(p.held, b...); len(p.held) < 2*flushAt {
		return len(b), nil
	}
	return len(b), p.flush()
}

func (p *page) flush() error {
	p.begun = true
	_, err := p.to.Write(p.held)
	if err != nil {
		p.gone = err
	}
	p.held = p.held[:0]
	return err
}

// scrapeLog passes promhttp's complaints on.
type scrapeLog struct{ *Telemetry }

// Println logs one complaint.
func (l scrapeLog) Println(v ...any) { l.Logger().Warn("metrics are incomplete", "cause", v) }

// ContainerMetrics registers who writes /metrics/containers, in the Prometheus text
// format; see Exposition. It replaces the one before; nil removes it.
func (t *Telemetry) ContainerMetrics(write func(w io.Writer) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.containers = write
}

// Labels are the encoded labels of one container: made once, written at every scrape.
type Labels []byte

// EncodeLabels encodes name, value, name, value, …; names must be valid ones, values may be anything.
func EncodeLabels(pairs ...string) Labels {
	var l Labels
	for i := 0; i+1 < len(pairs); i += 2 {
		if i > 0 {
			l = append(l, ',')
		}
		l = append(l, pairs[i]...)
		l = append(l, '=', '"')
		l = append(l, labelEscaper.Replace(strings.ToValidUTF8(pairs[i+1], "�"))...)
		l = append(l, '"')
	}
	return l
}

var (
	labelEscaper = strings.NewReplacer("\\", `\\`, "\n", `\n`, `"`, `\"`)
	helpEscaper  = strings.NewReplacer("\\", `\\`, "\n", `\n`)
)

// Exposition writes the Prometheus text format with labels encoded beforehand: per
// sample only the value is formatted. All samples of a family follow its Family
// call. It is used by one goroutine; Flush ends it. The zero value with W set works.
type Exposition struct {
	// W receives the text.
	W    io.Writer
	buf  []byte
	name string
	err  error
}

// flushAt is the fill in bytes at which the buffer is written.
const flushAt = 32 << 10

// Family begins a family of the kind counter or gauge; name is complete.
func (e *Exposition) Family(name string, kind Kind, help string) {
	e.name = name
	e.buf = append(e.buf, "# HELP "...)
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, ' ')
	e.buf = append(e.buf, helpEscaper.Replace(help)...)
	e.buf = append(e.buf, "\n# TYPE "...)
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, ' ')
	e.buf = append(e.buf, kind...)
	e.buf = append(e.buf, '\n')
}

// Sample writes a value of the family. extra are labels of the sample alone, nil for none.
func (e *Exposition) Sample(labels, extra Labels, value float64) {
	e.begin(labels, extra)
	if value < 1<<53 && value > -1<<53 && value == float64(int64(value)) {
		e.buf = strconv.AppendInt(e.buf, int64(value), 10) // three times as fast
	} else {
		e.buf = strconv.AppendFloat(e.buf, value, 'g', -1, 64)
	}
	e.end()
}

// Uint writes a whole value of the family.
func (e *Exposition) Uint(labels, extra Labels, value uint64) {
	e.begin(labels, extra)
	e.buf = strconv.AppendUint(e.buf, value, 10)
	e.end()
}

func (e *Exposition) begin(labels, extra Labels) {
	e.buf = append(e.buf, e.name...)
	e.buf = append(e.buf, '{')
	e.buf = append(e.buf, labels...)
	if len(labels) > 0 && len(extra) > 0 {
		e.buf = append(e.buf, ',')
	}
	e.buf = append(e.buf, extra...)
	e.buf = append(e.buf, '}', ' ')
}

func (e *Exposition) end() {
	e.buf = append(e.buf, '\n')
	if len(e.buf) >= flushAt {
		e.write()
	}
}

func (e *Exposition) write() {
	if e.err == nil {
		_, e.err = e.W.Write(e.buf)
	}
	e.buf = e.buf[:0]
}

// Flush writes the rest and returns the first error of W.
func (e *Exposition) Flush() error {
	e.write()
	return e.err
}
