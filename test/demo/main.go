// Command demo does the main job once, on real things, and tells what it does: a
// registry, an image, a daemon with its embedded defaults, a pod with a network, its
// log, exit, metrics and trace; then it removes all and proves that nothing is left.
//
//	demo             the whole story; everything is gone at the end
//	demo --keep      leaves the daemon and the pod for a person to play with
//	demo --stop DIR  ends what --keep left
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

func main() {
	keep := flag.Bool("keep", false, "leave the daemon running")
	stop := flag.String("stop", "", "end what --keep left in this directory")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	err := errors.New("the demo needs root: it makes namespaces, mounts and cgroups")
	switch {
	case os.Geteuid() != 0:
	case *stop != "":
		err = end(ctx, *stop)
	default:
		err = demo(ctx, *keep)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, keep bool) (err error) {
	from := time.Now()
	tell("A registry on loopback, and an image built on the spot")
	reg, err := fixture.Start(ctx, "")
	if err != nil {
		return err
	}
	defer reg.Close()
	img, err := harness.TestImage()
	if err != nil {
		return err
	}
	image, err := fixture.BuildImage(ctx, reg.Addr, "demo/box:1", img)
	if err != nil {
		return err
	}
	show("pushed %s (busybox and a test program)", image.Ref)

	tell("The daemon, with its embedded defaults, in a root of its own")
	metrics, err := freeAddress()
	if err != nil {
		return err
	}
	d, err := harness.NewDaemon(harness.Options{
		CNI: "none", LogLevel: "info", MetricsListen: metrics,
		RegistriesConf: fixture.RegistriesConf(reg.Addr),
	})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil || !keep {
			err = errors.Join(err, d.Close())
		}
	}()
	started := time.Now()
	if err := d.Start(ctx); err != nil {
		return err
	}
	show("vitrined answers after %v; socket %s", time.Since(started).Round(time.Millisecond), d.Socket())

	s := &story{Daemon: d, image: image.Ref}
	if s.cri, err = d.CRI(); err != nil {
		return err
	}
	if err := s.pull(ctx); err != nil {
		return err
	}
	before, err := d.Census()
	if err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		return err
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	if keep {
		kept(d)
		return nil
	}
	if err := s.remove(ctx, before); err != nil {
		return err
	}
	fmt.Printf("\nDone in %v.\n", time.Since(from).Round(100*time.Millisecond))
	return nil
}

func kept(d *harness.Daemon) {
	tell("Left running")
	show("crictl --runtime-endpoint unix://%s pods", d.Socket())
	show("curl http://%s/metrics", d.Options.MetricsListen)
	show("tail -f %s", d.DaemonLog())
	show("make demo STOP=%s     ends it and removes everything", d.Dir)
}

// end does to a kept instance what the story's end does: pods by the runtime, the
// daemon by a signal, and the rest by force.
func end(ctx context.Context, dir string) error {
	in, err := harness.OpenInstance(filepath.Clean(dir))
	if err != nil {
		return err
	}
	cri, err := harness.Dial(in.Socket())
	if err != nil {
		return err
	}
	defer cri.Close()
	err = cri.RemoveAll(ctx)
	return errors.Join(err, in.Sweep(), os.RemoveAll(in.Dir))
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

var step int

// tell begins a chapter, show prints a line of it.
func tell(format string, args ...any) {
	step++
	fmt.Printf("\n%d. %s\n", step, fmt.Sprintf(format, args...))
}

func show(format string, args ...any) { fmt.Printf("   %s\n", fmt.Sprintf(format, args...)) }
