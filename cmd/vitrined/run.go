package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/cri"
	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/lifecycle/nri"
	"github.com/vitrine-runtime/vitrine/network"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// maxMessage bounds a gRPC message, in bytes: kubelet's own bound.
const maxMessage = 16 << 20

// stopBound is how long calls in progress may take after a request to end.
const stopBound = 10 * time.Second

// stops are what must be stopped, in the order of their start.
type stops []func()

func (s *stops) add(stop func()) { *s = append(*s, stop) }

func (s stops) run() {
	for i := len(s) - 1; i >= 0; i-- {
		s[i]()
	}
}

// logged makes a step of the shutdown of something that can fail.
func logged(what string, stop func() error) func() {
	return func() {
		if err := stop(); err != nil {
			slog.Warn("stop "+what, "error", err)
		}
	}
}

// daemon is the rooms, built.
type daemon struct {
	config    *Config
	flags     flagSet
	started   time.Time
	telemetry *telemetry.Telemetry
	cgroups   *cgroup.Cgroups
	images    *image.Store
	network   *network.Network
	plugins   *nri.Plugins // nil where none are served
	programs  *programs
	pods      *lifecycle.Manager
	reloaded  atomic.Pointer[reloadOutcome]
	stops     stops
}

// run builds the daemon, serves until SIGTERM or SIGINT, and stops it. Containers
// and their monitors are not touched by the end.
func run(ctx context.Context, config *Config, flags flagSet) (err error) {
	d, err := open(ctx, config, flags)
	if err != nil {
		return err
	}
	defer d.stops.run()
	failed, err := d.serve()
	if err != nil {
		return err
	}
	notifyReady()
	slog.Info("serving", "socket", config.Socket, "version", version, "start", time.Since(d.started).Round(time.Millisecond))
	err = d.wait(ctx, failed)
	notifyStopping()
	return err
}

// open takes the instance's lock and builds the rooms. The caller runs d.stops.
func open(ctx context.Context, config *Config, flags flagSet) (*daemon, error) {
	unix.Umask(0o022)
	lock, err := lockState(config.State)
	if err != nil {
		return nil, err
	}
	d := &daemon{config: config, flags: flags, started: time.Now()}
	d.stops.add(func() { lock.Close() })
	if err := d.build(ctx); err != nil {
		d.stops.run()
		return nil, err
	}
	return d, nil
}

// build opens the rooms in order; each needs only those before it.
func (d *daemon) build(ctx context.Context) (err error) {
	c := d.config
	if c.Telemetry.SpanStarted, err = faults(); err != nil {
		return err
	}
	if d.telemetry, err = telemetry.Setup(ctx, c.Telemetry); err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	d.stops.add(logged("telemetry", func() error { return d.telemetry.Shutdown(context.Background()) }))
	d.telemetry.InstallGlobals()
	ctx, span := telemetry.Start(d.telemetry.Context(ctx), "daemon.start")
	defer span.End(&err)

	if err := phase(ctx, "daemon.receiver", d.startReceiver); err != nil {
		return err
	}
	_ = phase(ctx, "daemon.ebpf", func() error { d.programs = loadPrograms(c.EBPF); return nil })
	d.stops.add(logged("eBPF programs", d.programs.close))
	if err := phase(ctx, "daemon.cgroup", func() error { d.cgroups, err = cgroup.New(c.Cgroup); return err }); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	d.stops.add(logged("cgroups", d.cgroups.Close))
	if d.images, err = image.Open(ctx, c.Image); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	d.stops.add(logged("image store", d.images.Close))
	if err := phase(ctx, "daemon.network", func() error { d.network, err = network.New(ctx, c.Network); return err }); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	d.stops.add(logged("network", d.network.Close))
	rooms := lifecycle.Rooms{Images: d.images, Network: d.network, Cgroups: d.cgroups, Witness: d.programs}
	if c.NRISocket != "" {
		if d.plugins, err = nri.New(d.telemetry.Context(context.WithoutCancel(ctx)), c.NRI, version, c.Runtime.InjectCDI); err != nil {
			return err
		}
		rooms.Plugins = d.plugins
	}
	own := d.telemetry.Context(context.WithoutCancel(ctx))
	if err := phase(ctx, "daemon.lifecycle", func() error { d.pods, err = lifecycle.New(own, c.Runtime, rooms); return err }); err != nil {
		return fmt.Errorf("lifecycle: %w", err)
	}
	d.stops.add(d.pods.Close)
	d.telemetry.ProvideFigures(d.figures)
	d.observe()
	d.reloaded.Store(&reloadOutcome{ok: true, at: d.started})
	d.gauges()
	if err := d.pods.Recover(ctx); err != nil || d.plugins == nil {
		return err
	}
	d.stops.add(logged("plugins", d.plugins.Close))
	return phase(ctx, "daemon.plugins", func() error { return d.plugins.Start(d.pods) })
}

// phase times a part of the start whose room opens no span of its own.
func phase(ctx context.Context, name string, do func() error) (err error) {
	_, span := telemetry.Start(ctx, name)
	defer span.End(&err)
	return do()
}

// observe lets telemetry read the stream of events until lifecycle closes it.
func (d *daemon) observe() {
	done := make(chan struct{})
	events := d.pods.Subscribe(4096)
	go func() {
		defer close(done)
		for e := range events.Events() {
			d.telemetry.Observe(*e)
		}
	}()
	d.stops.add(func() { events.Close(); <-done })
}

// startReceiver takes what monitors report, also late, from their spools.
func (d *daemon) startReceiver() error {
	receiver, err := d.telemetry.Receive(d.config.Runtime.TelemetrySocket)
	if err != nil {
		return fmt.Errorf("telemetry receiver: %w", err)
	}
	d.stops.add(logged("telemetry receiver", receiver.Close))
	return nil
}

// serve opens the sockets. failed receives the error of one that breaks later.
func (d *daemon) serve() (failed chan error, err error) {
	c := d.config
	options := append(d.telemetry.ServerOptions(),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), cri.ServerOption())
	server := grpc.NewServer(options...)
	d.stops.add(func() { stopServer(server) })
	surface, err := cri.New(cri.Config{Pods: d.pods, Images: d.images, Version: version, Options: c.CRI})
	if err != nil {
		return nil, fmt.Errorf("cri: %w", err)
	}
	d.stops.add(logged("cri", surface.Close))
	surface.Register(server)
	d.telemetry.ContainerMetrics(surface.WriteContainerMetrics)

	api, err := listenUnix(filepath.Join(c.State, "api.sock"), 0o600, 0)
	if err != nil {
		return nil, err
	}
	d.stops.add(serveHTTP(api, d.apiHandler()))
	if c.MetricsListen != "" {
		metrics, err := listenMetrics(c)
		if err != nil {
			return nil, fmt.Errorf("metrics_listen: %w", err)
		}
		d.stops.add(serveHTTP(metrics, withToken(c.MetricsTokenFile, d.telemetry.MetricsHandler())))
	}
	if c.PageListen != "" {
		if err := d.servePage(c.PageListen); err != nil {
			return nil, err
		}
	}
	listener, err := listenUnix(c.Socket, 0o660, c.SocketGroup)
	if err != nil {
		return nil, err
	}
	failed = make(chan error, 1)
	go func() { failed <- server.Serve(roomy{listener}) }()
	return failed, nil
}

// wait returns nil after SIGTERM or SIGINT, or the error that ended the service.
// SIGHUP reloads what may change while containers run.
func (d *daemon) wait(ctx context.Context, failed <-chan error) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP)
	defer signal.Stop(hangup)
	go watchdog(ctx, d.healthy)
	for {
		select {
		case <-ctx.Done():
			slog.Info("stopping; containers go on")
			return nil
		case err := <-failed:
			return fmt.Errorf("serve %s: %w", d.config.Socket, err)
		case <-hangup:
			d.reload()
		}
	}
}

// healthy asks the daemon through its own socket, as kubelet would.
func (d *daemon) healthy(ctx context.Context) error {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(d.config.State, "api.sock"))
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://vitrine/v1/status", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// stopServer lets calls in progress end, within a bound: a stream of events or a
// long exec would otherwise hold the daemon.
func stopServer(server *grpc.Server) {
	done := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(stopBound):
		server.Stop()
		<-done
	}
}
