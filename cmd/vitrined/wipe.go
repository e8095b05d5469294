package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

// wipe takes away everything that the instance has on the host, but for its
// directories: every pod, the embedded network's bridge and rules, the programs in the
// kernel, and with images also those. The daemon must not run; it would hold the lock.
func wipe(ctx context.Context, config *Config, flags flagSet, images bool, out io.Writer) error {
	d, err := open(ctx, config, flags)
	if err != nil {
		return err
	}
	stopped := false
	stop := func() {
		if !stopped {
			d.stops.run()
		}
		stopped = true
	}
	defer stop()
	var errs []error
	pods := d.pods.Sandboxes()
	for _, sb := range pods {
		errs = append(errs, d.pods.RemoveSandbox(ctx, string(sb.ID)))
	}
	removed := 0
	if images {
		all, err := d.images.List(ctx)
		errs = append(errs, err)
		for _, img := range all {
			errs = append(errs, d.images.Remove(ctx, img.ID))
			removed++
		}
	}
	errs = append(errs, d.network.Wipe(ctx))
	stop() // the programs must have no reader left
	errs = append(errs, ebpf.Wipe(config.EBPF.PinDir))
	fmt.Fprintf(out, "removed %d pods, %d images and the default network of %s\n", len(pods), removed, config.State)
	return errors.Join(errs...)
}
