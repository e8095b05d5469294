package client

import (
	"context"
	"fmt"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// Build names the program that the monitor ran when it was last asked; empty for one
// that this process started itself and has not asked.
func (m *Monitor) Build() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.info.Build
}

// Upgrade replaces the program of the running monitor by the one at path, absolute:
// the process, its children, its streams and its sessions go on. The new program is
// tried before; on an error the old one goes on as if nothing had been asked. A
// monitor of before upgrades were known refuses as it does any unknown request.
func (m *Monitor) Upgrade(ctx context.Context, path string) error {
	reply, _, err := m.request(ctx, &wire.Message{Kind: wire.Upgrade, Body: []byte(path)}, nil)
	var info wire.Info
	if err == nil {
		err = info.Parse(reply.Body)
	}
	if err != nil {
		return fmt.Errorf("upgrade monitor of container %s: %w", m.info.ID, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.info.Build, m.info.Upgrades = info.Build, info.Upgrades
	return nil
}

// Upgrades is how often the monitor's program was replaced, as far as it has told.
func (m *Monitor) Upgrades() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.info.Upgrades
}
