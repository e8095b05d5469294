package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"go.opentelemetry.io/otel/attribute"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// undoTime bounds the DEL after a failed ADD, whose own time may be over.
const undoTime = 20 * time.Second

// Attach runs ADD of the node's network for the pod and returns its addresses in
// the plugins' order, primary first, and the configuration that was used. After an
// error the pod is not attached: what was done is undone, or, where that fails too,
// stays known to Detach and GC. A plugin is killed when ctx ends.
func (n *Network) Attach(ctx context.Context, req AttachRequest) (status pod.NetworkStatus, err error) {
	ctx, span := telemetry.Start(ctx, "network.attach", podAttributes(req)...)
	defer span.End(&err)
	rt, err := req.runtimeConf()
	if err != nil {
		return pod.NetworkStatus{}, fmt.Errorf("attach network to %.64s: %w", req.ID, err)
	}
	if !isNamespace(req.NetNS) {
		return pod.NetworkStatus{}, fmt.Errorf("attach network to %s: %w: %q is no network namespace", req.ID, pod.ErrInvalid, req.NetNS)
	}
	// An ADD that was begun before and not ended would make the second one fail.
	if err := n.release(ctx, req.ID); err != nil {
		return pod.NetworkStatus{}, fmt.Errorf("attach network to %s: undo an earlier attach: %w", req.ID, err)
	}
	list, err := n.active(ctx)
	if err != nil {
		return pod.NetworkStatus{}, fmt.Errorf("attach network to %s: %w", req.ID, err)
	}
	span.Set(attribute.String("vitrine.network.name", list.Name))
	a := attachment{ID: req.ID, NetNS: req.NetNS, ConfList: list.raw, Builtin: list.file == "", Args: rt.Args, Caps: rt.CapabilityArgs}
	if err := n.files.put(a); err != nil {
		return pod.NetworkStatus{}, fmt.Errorf("attach network to %s: %w", req.ID, err)
	}
	status, err = n.add(ctx, list, rt)
	if err != nil {
		undoCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime) // the request's time may be what ended ADD
		defer cancel()
		if undo := n.release(undoCtx, req.ID); !(errors.Is(err, ErrPluginMissing) && errors.Is(undo, ErrPluginMissing)) {
			err = errors.Join(err, undo) // a plugin that is missing is told of once
		}
		return pod.NetworkStatus{}, fmt.Errorf("attach network %s to %s: %w", list.Name, req.ID, err)
	}
	return status, nil
}

func (n *Network) add(ctx context.Context, list *conflist, rt *libcni.RuntimeConf) (pod.NetworkStatus, error) {
	if list.file == "" {
		if err := n.builtin.prepare(ctx); err != nil {
			return pod.NetworkStatus{}, err
		}
	}
	if list.atLeast("1.1.0") {
		if err := n.gate.enter(ctx); err != nil {
			return pod.NetworkStatus{}, err
		}
		defer n.gate.leave()
	}
	result, err := n.cni.AddNetworkList(ctx, effective(list, rt.CapabilityArgs), rt)
	if err != nil {
		return pod.NetworkStatus{}, err
	}
	ips, err := addresses(result)
	if err != nil {
		return pod.NetworkStatus{}, err
	}
	return pod.NetworkStatus{IPs: ips, Network: list.Name, ConfList: list.raw}, nil
}

// addresses returns the pod's addresses in the plugins' order. Those that a plugin
// reports of the host's side are not the pod's.
func addresses(result types.Result) ([]string, error) {
	r, err := types100.NewResultFromResult(result)
	if err != nil {
		return nil, fmt.Errorf("understand the plugins' result: %w", err)
	}
	var ips []string
	for _, ip := range r.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(r.Interfaces) && r.Interfaces[*i].Sandbox == "" {
			continue
		}
		ips = append(ips, ip.Address.IP.String())
	}
	if len(ips) == 0 {
		return nil, errors.New("the plugins gave the pod no address")
	}
	return ips, nil
}

// Detach runs DEL with the configuration that Attach used, also when the namespace is
// gone or the node's configuration has changed. A pod that was never attached is success.
//
// With a plugin missing, the plugins that exist are run, and the error is
// ErrPluginMissing: nothing more can be done now, GC finishes it later, and a pod that
// is being stopped need not wait. After any other error Detach is to be called again.
//
// Plugins that have begun go on when ctx ends, and Detach with them; each one's bound is
// Config.PluginTimeout.
func (n *Network) Detach(ctx context.Context, req AttachRequest) (err error) {
	ctx, span := telemetry.Start(ctx, "network.detach", podAttributes(req)...)
	defer span.End(&err)
	if err := checkID(req.ID); err != nil {
		return fmt.Errorf("detach network: %w", err)
	}
	if err := n.adopt(ctx, req); err != nil {
		return fmt.Errorf("detach network from %s: %w", req.ID, err)
	}
	if err := n.release(ctx, req.ID); err != nil {
		return fmt.Errorf("detach network from %s: %w", req.ID, err)
	}
	return nil
}

// adopt writes the attachment's file anew when it is lost or damaged: from the
// sandbox's own record, or, of a damaged one that has no record, with the node's
// network as the best guess.
func (n *Network) adopt(ctx context.Context, req AttachRequest) error {
	_, err := n.files.get(req.ID)
	raw := req.Status.ConfList
	if err == nil || (len(raw) == 0 && errors.Is(err, fs.ErrNotExist)) {
		return nil
	}
	if len(raw) == 0 {
		list, err := n.active(ctx)
		if err != nil {
			return n.files.remove(req.ID)
		}
		raw = list.raw
	}
	rt, err := req.runtimeConf()
	if err != nil {
		return err
	}
	return n.files.put(attachment{ID: req.ID, NetNS: req.NetNS, ConfList: raw, Args: rt.Args, Caps: rt.CapabilityArgs})
}

// release runs DEL for an attachment and forgets it. None is success.
func (n *Network) release(ctx context.Context, id string) error {
	a, err := n.files.get(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := parseConflist(a.ConfList)
	if err != nil {
		return err
	}
	lock, err := n.files.lock(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an earlier DEL finished while this one waited for it
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	run, missing := n.present(effective(list, a.Caps))
	if len(run.Plugins) > 0 {
		// A DEL that has begun is not cut off with its request: see ExecPlugin.
		ctx := context.WithoutCancel(ctx)
		if err := n.cni.DelNetworkList(withInherited(ctx, lock), run, a.runtimeConf()); err != nil {
			return err
		}
	}
	if missing != nil {
		n.stale.add(id)
		return missing
	}
	n.stale.remove(id)
	return n.files.remove(id)
}

// present splits a list into what can be run and an error that names what cannot.
func (n *Network) present(list *libcni.NetworkConfigList) (*libcni.NetworkConfigList, error) {
	run := *list
	run.Plugins = nil
	var missing []error
	for _, p := range list.Plugins {
		if err := n.findPlugin(p); err != nil {
			missing = append(missing, err)
		} else {
			run.Plugins = append(run.Plugins, p)
		}
	}
	return &run, errors.Join(missing...)
}

// findPlugin looks for the plugin's binary and for its IPAM plugin's.
func (n *Network) findPlugin(p *libcni.PluginConfig) error {
	if _, err := n.exec.FindInPath(p.Network.Type, n.config.BinDirs); err != nil {
		return err
	}
	if ipam := p.Network.IPAM.Type; ipam != "" {
		if _, err := n.exec.FindInPath(ipam, n.config.BinDirs); err != nil {
			return fmt.Errorf("IPAM of %s: %w", p.Network.Type, err)
		}
	}
	return nil
}

// Check asks the plugins whether the pod's attachment is as ADD left it. Lists older
// than CNI 0.4.0 cannot tell: pod.ErrUnsupported.
func (n *Network) Check(ctx context.Context, req AttachRequest) (err error) {
	ctx, span := telemetry.Start(ctx, "network.check", podAttributes(req)...)
	defer span.End(&err)
	a, err := n.files.get(req.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("check network of %.64s: %w", req.ID, pod.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("check network of %s: %w", req.ID, err)
	}
	list, err := parseConflist(a.ConfList)
	if err == nil {
		err = n.cni.CheckNetworkList(ctx, effective(list, a.Caps), a.runtimeConf())
	}
	if errors.Is(err, libcni.ErrorCheckNotSupp) {
		err = fmt.Errorf("%w: %w", pod.ErrUnsupported, err)
	}
	if err != nil {
		return fmt.Errorf("check network of %s: %w", req.ID, err)
	}
	return nil
}

func podAttributes(req AttachRequest) []attribute.KeyValue {
	return []attribute.KeyValue{
		telemetry.KeySandboxID.String(req.ID),
		telemetry.KeyNamespace.String(req.Namespace),
		telemetry.KeyPodName.String(req.Name),
		telemetry.KeyPodUID.String(req.UID),
	}
}
