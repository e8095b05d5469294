// Command screens draws what a person sees into SVG files: the page of a node and of a
// pod, vitrine trace and vitrine why, of a real daemon that has just met a slow
// registry, a container that was killed for its memory and one that was denied something.
//
//	screens DIR
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

func main() {
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	err := errors.New("it needs root, and a directory to write to")
	if os.Geteuid() == 0 && flag.NArg() == 1 {
		err = draw(ctx, flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "screens:", err)
		os.Exit(1)
	}
}

func draw(ctx context.Context, dir string) (err error) {
	reg, err := fixture.Start(ctx, "")
	if err != nil {
		return err
	}
	defer reg.Close()
	img, err := harness.TestImage()
	if err != nil {
		return err
	}
	built, err := fixture.BuildImage(ctx, reg.Addr, "shop/web:1", img)
	if err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	d, err := harness.NewDaemon(harness.Options{
		CNI: "none", LogLevel: "info", Config: fmt.Sprintf("page_listen = %q\n", address), RegistriesConf: fixture.RegistriesConf(reg.Addr),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Start(ctx); err != nil {
		return err
	}
	cri, err := d.CRI()
	if err != nil {
		return err
	}
	if err := happen(ctx, d, cri, built.Ref); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cri.RemoveAll(context.WithoutCancel(ctx))) }()
	return screens(ctx, d, dir, "http://"+address)
}

// happen lets two pods live: one whose program needs more memory than it may have, and
// one that wants to do what it has no capability for.
func happen(ctx context.Context, d *harness.Daemon, cri *harness.CRI, image string) error {
	for _, p := range []struct {
		pod, container string
		change         func(*runtime.ContainerConfig)
		command        []string
	}{
		{"web", "app", func(c *runtime.ContainerConfig) { c.Linux.Resources.MemoryLimitInBytes = 24 << 20 },
			[]string{"/bin/sh", "-c", "echo reading the catalogue; sleep 1; exec dd if=/dev/zero of=/dev/null bs=200M count=1"}},
		{"cart", "migrate", func(c *runtime.ContainerConfig) {
			c.Linux.SecurityContext.Capabilities = &runtime.Capability{DropCapabilities: []string{"ALL"}}
		}, []string{"/bin/busybox", "chown", "1000", "/tmp"}},
	} {
		// One trace for all calls about a pod, as kubelet's is.
		calls, _ := harness.Traced(ctx)
		config := d.Pod(p.pod)
		config.Metadata.Namespace = "shop"
		id, err := cri.Pull(calls, image)
		if err != nil {
			return err
		}
		sandbox, err := cri.RunPod(calls, config)
		if err != nil {
			return err
		}
		c := harness.Container(config, p.container, id, p.command...)
		p.change(c)
		container, err := cri.Run(calls, sandbox, config, c)
		if err != nil {
			return err
		}
		if _, err := cri.WaitExit(ctx, container); err != nil {
			return err
		}
	}
	return nil
}

// reports is how long monitors may take to report what they did.
const reports = 3 * time.Second

// screens looks at the daemon and writes what it sees.
func screens(ctx context.Context, d *harness.Daemon, dir, page string) error {
	bin, err := harness.Bin()
	if err != nil {
		return err
	}
	select { // of a picture no condition says that it is whole
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(harness.Scale(reports)):
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, args := range map[string][]string{
		"trace": {"trace", "--color", "always", "--width", "130", "shop/web"},
		"why":   {"why", "shop/web"},
	} {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "vitrine"), append(args, "--state", filepath.Join(d.Dir, "state"))...)
		cmd.Env = append(os.Environ(), "TZ=UTC")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("vitrine %s: %w: %s", name, err, out)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), terminal("vitrine "+args[0]+" shop/web", string(out)), 0o644); err != nil {
			return err
		}
	}
	style, err := get(ctx, page+"/style.css")
	if err != nil {
		return err
	}
	for name, path := range map[string]string{"page-node": "/", "page-pod": "/pod?subject=" + url.QueryEscape("shop/cart")} {
		body, err := get(ctx, page+path)
		if err != nil {
			return err
		}
		drawn, err := browser(body, style)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), drawn, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func get(ctx context.Context, address string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", address, answer.Status)
	}
	return string(body), err
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
