package network

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/vitrine-runtime/vitrine/pod"
)

// active returns the list that a pod attached now would get: the first good file in
// lexical order, or the embedded default when there is no file at all. A directory
// with only bad files yields their errors; it does not fall back, because pods would
// silently land in a network that nobody asked for.
func (n *Network) active(ctx context.Context) (*conflist, error) {
	files, err := n.conf.snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pod.ErrUnavailable, err)
	}
	var bad []error
	for _, f := range files {
		if f.list != nil {
			return f.list, nil
		}
		bad = append(bad, fmt.Errorf("%s: %w", f.path, f.err))
	}
	switch {
	case len(bad) > 0:
		return nil, fmt.Errorf("%w: no usable CNI configuration: %w", pod.ErrUnavailable, errors.Join(bad...))
	case n.config.NoDefault:
		return nil, fmt.Errorf("%w: no CNI configuration in %s", pod.ErrUnavailable, n.config.ConfDir)
	default:
		return n.builtin.conflist(ctx)
	}
}

// Ready returns nil when a pod could be attached now, or why not: no configuration,
// a plugin that is missing, or a plugin whose STATUS says so. Bad files beside a good
// one do not make it fail; Status lists them. It answers from memory but for a stat
// per plugin, and for the first STATUS of a configuration, for which it waits up to 2 s.
func (n *Network) Ready() error {
	list, err := n.active(n.prober.ctx)
	if err != nil {
		return err
	}
	if _, missing := n.present(list.NetworkConfigList); missing != nil {
		return fmt.Errorf("%w: network %s: %w", pod.ErrUnavailable, list.Name, missing)
	}
	if !list.atLeast("1.1.0") {
		return nil // STATUS is of 1.1.0; before it, plugins that are there must do
	}
	if err := n.prober.status(n, list); err != nil {
		return fmt.Errorf("%w: network %s: %w", pod.ErrUnavailable, list.Name, err)
	}
	return nil
}

// Status is what a person wants to know of the node's network.
type Status struct {
	// Name and Version are the active network's, File where it was read (empty for
	// the embedded default), Plugins its plugins' types in order.
	Name, Version, File string
	Plugins             []string
	// Bad are the files that cannot be used, with the reason. A file whose earlier
	// content is still in force is among them.
	Bad map[string]string
	// NotReady is Ready's answer; empty when ready.
	NotReady string
}

// Status describes the configuration in force.
func (n *Network) Status() Status {
	var s Status
	if list, err := n.active(n.prober.ctx); err == nil {
		s.Name, s.Version, s.File = list.Name, list.CNIVersion, list.file
		for _, p := range list.Plugins {
			s.Plugins = append(s.Plugins, p.Network.Type)
		}
	}
	files, _ := n.conf.snapshot(n.prober.ctx)
	for _, f := range files {
		if f.err != nil {
			if s.Bad == nil {
				s.Bad = map[string]string{}
			}
			s.Bad[f.path] = f.err.Error()
		}
	}
	if err := n.Ready(); err != nil {
		s.NotReady = err.Error()
	}
	return s
}

// STATUS is asked for on demand and remembered for statusFresh: kubelet asks every
// few seconds, and an idle node runs nothing.
const (
	statusFresh = 5 * time.Second
	statusFirst = 2 * time.Second
	statusLimit = 10 * time.Second
)

// prober remembers the last STATUS.
type prober struct {
	ctx     context.Context // ends with the network
	running sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	list   *conflist  // of which err is the answer
	at     time.Time  // zero: no answer yet
	err    error
	flight chan struct{} // closed when the probe that runs has answered; nil: none runs
}

// status returns the last answer for the list and sees to it that a fresh one comes.
func (p *prober) status(n *Network, list *conflist) error {
	p.mu.Lock()
	if p.list != list {
		p.list, p.at, p.err = list, time.Time{}, nil
	}
	if time.Since(p.at) > statusFresh && p.flight == nil && p.ctx.Err() == nil {
		flight := make(chan struct{})
		p.flight = flight
		p.running.Go(func() { p.probe(n, list, flight) })
	}
	flight, answered := p.flight, !p.at.IsZero()
	p.mu.Unlock()
	if !answered && flight != nil {
		select {
		case <-flight:
		case <-time.After(statusFirst):
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.list == list && p.at.IsZero() {
		return errors.New("the plugins have not answered STATUS yet")
	}
	return p.err
}

func (p *prober) probe(n *Network, list *conflist, flight chan struct{}) {
	ctx, cancel := context.WithTimeout(p.ctx, statusLimit)
	defer cancel()
	err := n.askStatus(ctx, list)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.list == list {
		p.at, p.err = time.Now(), err
	}
	p.flight = nil
	close(flight)
}

func (p *prober) wait() { p.running.Wait() }

// askStatus asks plugin by plugin, so that one which does not know STATUS (built
// against an older CNI) does not hide what the others have to say.
func (n *Network) askStatus(ctx context.Context, list *conflist) error {
	for _, plugin := range list.Plugins {
		one := *list.NetworkConfigList
		one.Plugins = []*libcni.PluginConfig{plugin}
		err := n.cni.GetStatusNetworkList(ctx, &one)
		var failure *PluginError
		if errors.As(err, &failure) && failure.Cause == nil && !tellsStatus(failure.Code) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tellsStatus says whether an error code is an answer to STATUS; the others are what
// a plugin says that does not know the command or the version.
func tellsStatus(code uint) bool {
	switch code {
	case types.ErrIncompatibleCNIVersion, types.ErrInvalidEnvironmentVariables:
		return false
	default:
		return true
	}
}
