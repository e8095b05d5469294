package lifecycle

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/lifecycle/host"
)

// probes remembers what each runtime handler said it can do. A handler is asked when
// its answer is first needed and again when its binary was replaced. One that could
// not be asked has no features, which is told once, and is asked again after a while.
type probes struct {
	mu    sync.Mutex // guards known
	known map[string]*probe
}

type probe struct {
	mu       sync.Mutex // guards the rest; held while the handler is asked, at most probeBound
	asked    bool
	binary   host.Stamp
	at       time.Time
	features launch.Features
	failed   bool
}

const (
	// probeBound is how long a handler may take to answer.
	probeBound = 10 * time.Second
	// probeAgain is the pause before a handler that failed is asked again.
	probeAgain = time.Minute
)

// Handlers lists the runtime handlers, the default one also under "".
func (m *Manager) Handlers() []HandlerInfo {
	names := []string{"", native}
	for name := range m.config.Handlers {
		names = append(names, name)
	}
	slices.Sort(names)
	all := make([]HandlerInfo, 0, len(names))
	for _, name := range names {
		f := m.features(name)
		all = append(all, HandlerInfo{
			Name: name, Runtime: f.Runtime, Version: f.Version,
			RecursiveReadOnlyMounts: f.RecursiveReadOnlyMounts, UserNamespaces: f.UserNamespaces,
		})
	}
	return all
}

// features is what the handler can do on this host; nothing for one that is not
// configured or does not answer.
func (m *Manager) features(name string) launch.Features {
	name = cmp.Or(name, m.config.DefaultHandler)
	handler, err := m.config.handler(name)
	if err != nil {
		return launch.Features{}
	}
	binary := host.StampOf(cmp.Or(handler.binary(), m.config.LaunchPath))
	p := m.probes.of(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	same := p.asked && p.binary == binary
	if same && (!p.failed || time.Since(p.at) < probeAgain) {
		return p.features
	}
	known := same && p.failed
	p.features, err = m.askFeatures(name, handler)
	p.asked, p.binary, p.at, p.failed = true, binary, time.Now(), err != nil
	if err != nil && !known {
		warn(m.ctx, "a runtime handler does not tell its features; it is taken to have none", err, "handler", name)
	}
	return p.features
}

// of is the entry of a handler. Each has its own lock: one that hangs delays only
// those who ask for it.
func (p *probes) of(name string) *probe {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[string]*probe{}
	}
	if p.known[name] == nil {
		p.known[name] = &probe{}
	}
	return p.known[name]
}

// askFeatures runs the launcher, which asks libcontainer or the external runtime.
func (m *Manager) askFeatures(name string, handler Handler) (launch.Features, error) {
	var f launch.Features
	ctx, cancel := context.WithTimeout(m.ctx, probeBound)
	defer cancel()
	raw, err := json.Marshal(launch.Request{
		Op: launch.OpFeatures, Root: m.runtimeRoot(), Runtime: m.runtime(handler),
	})
	if err != nil {
		return f, fmt.Errorf("probe runtime handler: %w", err)
	}
	request := filepath.Join(m.config.StateDir, "probe-"+url.PathEscape(name)+".json")
	defer os.Remove(request)
	if err := os.WriteFile(request, raw, 0o600); err != nil {
		return f, fmt.Errorf("probe runtime handler: %w", err)
	}
	reply, err := runLauncher(ctx, m.config.launcher(handler), request)
	if err == nil && reply.Error != nil {
		err = launchError(reply.Error)
	}
	if err != nil {
		return f, fmt.Errorf("probe runtime handler: %w", err)
	}
	if err := json.Unmarshal(reply.Features, &f); err != nil {
		return launch.Features{}, fmt.Errorf("probe runtime handler: read its features: %w", err)
	}
	return f, nil
}
