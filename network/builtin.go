package network

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"time"
)

// builtin is the embedded default network: a bridge with host-local addresses of
// both families, made by the CNI reference plugins, for a machine on which nobody
// has installed a network. Pods reach the world through one masquerading rule per
// family for the whole subnet (masquerade.go) instead of the bridge plugin's ipMasq,
// which costs some twenty runs of iptables per pod.
//
// It speaks CNI 1.0.0, so that any reference plugins since 2021 do.
type builtin struct {
	config Config
	// turn is a lock that can be waited for with a ctx: whoever has put a value in
	// may prepare the host.
	turn     chan struct{}
	prepared time.Time // guarded by turn

	mu   sync.Mutex // guards list
	list *conflist  // nil until first asked for
}

func (b *builtin) leaseDir() string    { return filepath.Join(b.config.CacheDir, "leases") }
func (b *builtin) choicePath() string  { return filepath.Join(b.config.CacheDir, "default.json") }
func (b *builtin) networkName() string { return b.config.Bridge }

// conflist returns the embedded default's list. The subnets are chosen when it is
// first asked for on this machine, and remembered.
func (b *builtin) conflist(ctx context.Context) (*conflist, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.list != nil {
		return b.list, nil
	}
	subnets, err := b.subnets()
	if err != nil {
		return nil, fmt.Errorf("embedded default network: %w", err)
	}
	portmapBackend := ""
	if nftWorks(ctx) {
		portmapBackend = "nftables"
	}
	raw, err := json.Marshal(b.document(subnets, portmapBackend))
	if err != nil {
		return nil, fmt.Errorf("embedded default network: %w", err)
	}
	b.list, err = parseConflist(raw)
	return b.list, err
}

// document is the conflist as JSON will have it.
func (b *builtin) document(subnets []netip.Prefix, portmapBackend string) map[string]any {
	var ranges [][]IPRange
	var routes []map[string]string
	for _, s := range subnets {
		ranges = append(ranges, []IPRange{{Subnet: s.String()}})
		everything := "0.0.0.0/0"
		if s.Addr().Is6() {
			everything = "::/0"
		}
		routes = append(routes, map[string]string{"dst": everything})
	}
	portmap := map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}, "snat": true}
	if portmapBackend != "" {
		portmap["backend"] = portmapBackend
	}
	plugins := []map[string]any{
		{
			"type": "bridge", "bridge": b.config.Bridge, "isGateway": true, "hairpinMode": true,
			"ipam": map[string]any{"type": "host-local", "dataDir": b.leaseDir(), "ranges": ranges, "routes": routes},
		},
		portmap,
	}
	if b.config.Firewall {
		plugins = append(plugins, map[string]any{"type": "firewall"})
	}
	return map[string]any{"cniVersion": "1.0.0", "name": b.networkName(), "plugins": plugins}
}

func (b *builtin) lock(ctx context.Context) error {
	select {
	case b.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *builtin) unlock() { <-b.turn }
