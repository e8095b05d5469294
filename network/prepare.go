package network

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/telemetry"
)

// preparedFresh is how long the masquerading rules are believed to be there.
const preparedFresh = 30 * time.Second

// prepare makes the host ready for a pod of the embedded default: the bridge, and the
// rules by which pods reach the world. Without a packet filter they reach the node and
// each other only, which is said and no error.
func (b *builtin) prepare(ctx context.Context) (err error) {
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.unlock()
	if err := b.ensureBridge(); err != nil {
		return fmt.Errorf("prepare the embedded default network: %w", err)
	}
	if time.Since(b.prepared) < preparedFresh {
		return nil
	}
	ctx, span := telemetry.Start(ctx, "network.masquerade")
	defer span.End(&err)
	subnets, err := b.subnets()
	if err != nil {
		return fmt.Errorf("prepare the embedded default network: %w", err)
	}
	runCtx, cancel := context.WithTimeout(ctx, masqueradeLimit)
	defer cancel()
	if failure := masquerade(runCtx, b.config.Bridge, subnets); failure != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		slog.WarnContext(ctx, "pods of the embedded default network reach the node only", "bridge", b.config.Bridge, "err", failure)
	}
	b.prepared = time.Now()
	return nil
}

// ensureBridge makes the bridge before the plugin would, for two things that the
// plugin leaves to the kernel: its MAC address, which would change with the ports
// and leave stale neighbours in the pods, and duplicate address detection, which
// would keep the IPv6 gateway silent for a second or two whenever a first pod comes.
func (b *builtin) ensureBridge() error {
	name := b.config.Bridge
	if _, err := netlink.LinkByName(name); err == nil {
		return nil
	} else if !errors.As(err, new(netlink.LinkNotFoundError)) {
		return fmt.Errorf("look for bridge %s: %w", name, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	sum := sha256.Sum256([]byte(name))
	attrs.HardwareAddr = append(net.HardwareAddr{0x02}, sum[:5]...) // locally administered, unicast
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make bridge %s: %w", name, err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make bridge %s: %w", name, err) // without IPv6 there is no such file
	}
	return nil
}
