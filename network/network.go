package network

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/containernetworking/cni/libcni"
)

// Network is the node's one network room. It is safe for concurrent use; calls for
// one sandbox take turns by lifecycle's per-pod lock.
type Network struct {
	config   Config
	cni      *libcni.CNIConfig
	exec     *pluginExec
	files    attachments
	conf     *confDir
	builtin  *builtin
	prober   prober
	gate     gate
	stale    stale
	stop     context.CancelFunc
	watching sync.WaitGroup
}

// New makes the directories, reads the network configuration, and watches it until
// Close. ctx is used for the values it carries, not for its end. A missing or broken
// configuration is no error; Ready tells it.
func New(ctx context.Context, config Config) (*Network, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open network: %w", err)
	}
	n := &Network{
		config:  config,
		exec:    &pluginExec{timeout: config.PluginTimeout},
		files:   attachments{dir: filepath.Join(config.CacheDir, "attachments")},
		conf:    &confDir{dir: config.ConfDir},
		builtin: &builtin{config: config, turn: make(chan struct{}, 1)},
	}
	n.cni = libcni.NewCNIConfigWithCacheDir(config.BinDirs, config.CacheDir, n.exec)
	for _, dir := range []string{config.Dir, n.files.dir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open network: %w", err)
		}
	}
	n.files.sweep()
	inherited, err := n.files.ids()
	if err != nil {
		return nil, fmt.Errorf("open network: %w", err)
	}
	n.stale.add(inherited...)
	ctx, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	n.prober.ctx = ctx
	n.conf.load(ctx)
	n.watching.Go(func() { n.conf.watch(ctx) })
	return n, nil
}

// Close ends the watch and the probes and waits for them. Attached pods keep their
// networks.
func (n *Network) Close() error {
	n.stop()
	n.watching.Wait()
	n.prober.wait()
	return nil
}
