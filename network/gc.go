package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sync/errgroup"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

const (
	// gcParallel is how many attachments are released at a time.
	gcParallel = 4
	// gcTime bounds the plugins' GC, during which no pod can be attached.
	gcTime = 20 * time.Second
)

// GC releases the attachments that were there when the network was opened, or whose
// Detach met a missing plugin, and that are not in keep: what a crash, a reboot or an
// uninstalled plugin left. Then the plugins of CNI 1.1.0 networks are told which
// attachments are valid, and the embedded default's leases without an owner are
// removed. Attach and Detach may run meanwhile. It goes on after errors.
//
// CNI's GC assumes that a network has one runtime. Where several share one, set
// disableGC in its conflist.
func (n *Network) GC(ctx context.Context, keep []AttachRequest) (err error) {
	ctx, span := telemetry.Start(ctx, "network.gc")
	defer span.End(&err)
	kept := map[string]bool{}
	var errs []error
	for _, req := range keep {
		kept[req.ID] = true
		if err := n.adopt(ctx, req); err != nil {
			errs = append(errs, fmt.Errorf("network of %s: %w", req.ID, err))
		}
	}
	errs = append(errs, n.releaseStale(ctx, kept), n.pluginGC(ctx), n.sweepLeases())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("collect stale networks: %w", err)
	}
	return nil
}

func (n *Network) releaseStale(ctx context.Context, kept map[string]bool) error {
	ids := n.stale.list()
	failures := make([]error, len(ids))
	var group errgroup.Group
	group.SetLimit(gcParallel)
	for i, id := range ids {
		if !kept[id] {
			group.Go(func() error {
				failures[i] = n.Detach(ctx, AttachRequest{ID: id})
				return nil
			})
		}
	}
	group.Wait()
	return errors.Join(failures...)
}

// pluginGC sends GC to the active network and to those of the attachments that exist.
// No ADD runs meanwhile, as the CNI specification demands: GC waits for a moment
// without one, and Attach waits for GC, which is bounded for its sake.
func (n *Network) pluginGC(ctx context.Context) error {
	lists, valid, err := n.validAttachments(ctx)
	if err != nil || len(lists) == 0 {
		return err
	}
	if err := n.gate.shut(ctx); err != nil {
		return fmt.Errorf("plugins' GC was put off: %w", err)
	}
	defer n.gate.open()
	ctx, cancel := context.WithTimeoutCause(ctx, gcTime, fmt.Errorf("%w: plugins' GC took more than %s", pod.ErrDeadline, gcTime))
	defer cancel()
	if lists, valid, err = n.validAttachments(ctx); err != nil { // once more: now it cannot change
		return err
	}
	var errs []error
	for name, list := range lists {
		run, missing := n.present(list)
		if err := n.cni.GCNetworkList(ctx, run, &libcni.GCArgs{ValidAttachments: valid[name]}); err != nil && !unknownCommand(err) {
			errs = append(errs, fmt.Errorf("network %s: %w", name, err))
		}
		errs = append(errs, missing)
	}
	return errors.Join(errs...)
}

// validAttachments lists what is attached by network, for the networks whose plugins
// know GC.
func (n *Network) validAttachments(ctx context.Context) (map[string]*libcni.NetworkConfigList, map[string][]types.GCAttachment, error) {
	lists, valid := map[string]*libcni.NetworkConfigList{}, map[string][]types.GCAttachment{}
	take := func(list *conflist) bool {
		if list.DisableGC || !list.atLeast("1.1.0") {
			return false
		}
		lists[list.Name] = list.NetworkConfigList
		return true
	}
	ids, err := n.files.ids()
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		a, err := n.files.get(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err // calling it invalid might take a living pod's network away
		}
		list, err := parseConflist(a.ConfList)
		if err != nil {
			return nil, nil, err
		}
		if take(list) {
			valid[list.Name] = append(valid[list.Name], types.GCAttachment{ContainerID: id, IfName: ifName})
		}
	}
	if list, err := n.active(ctx); err == nil {
		take(list)
	}
	return lists, valid, nil
}

// unknownCommand says whether all that failed is plugins older than the command.
func unknownCommand(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if !unknownCommand(e) {
				return false
			}
		}
		return true
	}
	var failure *PluginError
	return errors.As(err, &failure) && failure.Cause == nil && !tellsStatus(failure.Code)
}

// leaseWriting is how long a lease may be without its owner: host-local makes the file and
// writes it at once. An older one is what a power cut left of it.
const leaseWriting = time.Minute

// young says that the file was changed within leaseWriting, or is gone.
func young(path string) bool {
	info, err := os.Stat(path)
	return err != nil || time.Since(info.ModTime()) < leaseWriting
}

// sweepLeases removes the embedded default's leases whose sandbox has no attachment. A
// lease is a file named as its address; its first line is the sandbox's id. An
// attachment's file is there before its lease and goes after it.
func (n *Network) sweepLeases() error {
	dir := filepath.Join(n.builtin.leaseDir(), n.config.Bridge)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep leases: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.Name() == "lock" || strings.HasPrefix(e.Name(), "last_reserved_ip") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		raw, err := readBounded(path, 4096)
		if errors.Is(err, fs.ErrNotExist) {
			continue // released meanwhile
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep leases: %w", err))
			continue
		}
		owner, _, _ := strings.Cut(string(raw), "\n")
		owner = strings.TrimSpace(owner)
		if owner == "" && young(path) {
			continue // host-local is writing it
		}
		if checkID(owner) == nil {
			if _, err := os.Stat(filepath.Join(n.files.dir, owner)); err == nil {
				continue
			}
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("sweep leases: %w", err))
		}
	}
	return errors.Join(errs...)
}
