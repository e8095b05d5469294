package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Wipe removes what the embedded default made on this host: bridge, masquerading,
// leases, its choice of subnets. With attachments left it is pod.ErrState. Absence
// is success.
func (n *Network) Wipe(ctx context.Context) error {
	ids, err := n.files.ids()
	if err == nil && len(ids) > 0 {
		err = fmt.Errorf("%w: %d attachments are left", pod.ErrState, len(ids))
	}
	if err == nil {
		err = n.builtin.wipe(ctx)
	}
	if err != nil {
		return fmt.Errorf("wipe the embedded default network: %w", err)
	}
	return nil
}

func (b *builtin) wipe(ctx context.Context) error {
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.unlock()
	b.prepared = time.Time{}
	b.mu.Lock()
	b.list = nil
	b.mu.Unlock()
	subnets := b.config.Subnets
	if len(subnets) == 0 {
		subnets = b.earlierChoice()
	}
	var errs []error
	link, err := netlink.LinkByName(b.config.Bridge)
	switch {
	case err == nil && link.Type() == "bridge":
		errs = append(errs, netlink.LinkDel(link))
	case err == nil:
		errs = append(errs, fmt.Errorf("%w: %s is a %s, not a bridge", pod.ErrState, b.config.Bridge, link.Type()))
	case !errors.As(err, new(netlink.LinkNotFoundError)):
		errs = append(errs, err)
	}
	errs = append(errs, unmasquerade(ctx, b.config.Bridge, subnets), dropIdlePortmap(ctx))
	errs = append(errs, os.RemoveAll(b.leaseDir()))
	if err := os.Remove(b.choicePath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
