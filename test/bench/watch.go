package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// unwatched is the target's name of the same container while nobody watches its system
// calls: the ratio to it is what watching costs.
const unwatched = "unwatched"

// Ways to watch, and the query of GET /v1/syscalls that does it.
var watchWays = []struct{ name, query string }{{"counted", ""}, {"timed", "&latency=1"}}

// measureWatch measures what it costs a container, and one beside it, that system calls
// are counted, or timed: for the cheapest system call, for a build's many short processes,
// and for a server under load. Each turn is measured watched and not, one after the other
// and in an order that changes, as CPU time of the container, which a busy machine disturbs
// least. Peers cannot do it.
func measureWatch(ctx context.Context, o options, t *target, r *report) error {
	if t.trace == nil {
		return nil
	}
	return withPod(ctx, t, func(pod *runtime.PodSandboxConfig, sandbox string) (err error) {
		run := func(name string, command ...string) (id string) {
			if err == nil {
				id, err = t.cri.Run(ctx, sandbox, pod, harness.Container(pod, name, t.image, command...))
			}
			return id
		}
		inside, beside, server := run("inside", "/bin/payload", "wait"), run("beside", "/bin/payload", "wait"), run("server", "/bin/payload", "serve", "0")
		if err != nil {
			return err
		}
		port, err := listens(ctx, t, server)
		if err != nil {
			return err
		}
		const turns = 3
		for turn := range turns {
			for _, way := range watchWays {
				order := []bool{false, true}
				if turn%2 == 1 {
					slices.Reverse(order)
				}
				for _, on := range order {
					who, stop := unwatched, func() error { return nil }
					if on {
						if stop, err = watchAll(ctx, t, way.query, inside, server); err != nil {
							return err
						}
						who = t.name
					}
					err := errors.Join(
						callCost(ctx, t, r, who, "system call, "+way.name, inside),
						callCost(ctx, t, r, who, "system call beside, "+way.name, beside),
						buildCost(ctx, t, r, who, "build, "+way.name, inside),
						serveCost(ctx, t, r, who, "server, per 1000 requests, "+way.name, server, port))
					if err := errors.Join(err, stop()); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

// callCost is the CPU time of the cheapest system call, as the program itself measures it.
func callCost(ctx context.Context, t *target, r *report, who, metric, id string) error {
	answer, err := t.cri.Exec(ctx, id, 60, "/bin/payload", "cost", strconv.Itoa(unix.SYS_GETPPID), "300000")
	if err != nil {
		return err
	}
	ns, err := strconv.ParseFloat(strings.TrimSpace(string(answer.Stdout)), 64)
	if err != nil || answer.ExitCode != 0 {
		return fmt.Errorf("cost: %q, %d, %w", answer.Stdout, answer.ExitCode, err)
	}
	r.add(who, metric, nanoseconds, ns)
	return nil
}

// aBuild is what builds do all day: short processes, files read and written, compression.
const aBuild = `i=0; while [ $i -lt 60 ]; do /bin/true; ls -l /bin >/tmp/list; i=$((i+1)); done; tar -cf /tmp/t /bin; gzip -1 -f /tmp/t; gzip -dc /tmp/t.gz | tar -t >/dev/null; rm -f /tmp/t.gz /tmp/list`

func buildCost(ctx context.Context, t *target, r *report, who, metric, id string) error {
	used, err := cpuDuring(ctx, t, id, func() error {
		answer, err := t.cri.Exec(ctx, id, 120, "/bin/sh", "-c", "mkdir -p /tmp; "+aBuild)
		if err == nil && answer.ExitCode != 0 {
			err = fmt.Errorf("build: %d, %s", answer.ExitCode, answer.Stderr)
		}
		return err
	})
	if err == nil {
		r.add(who, metric, milliseconds, used.Seconds()*1000)
	}
	return err
}

// serveCost is the server's CPU time for requests of 1 KiB on 8 connections.
func serveCost(ctx context.Context, t *target, r *report, who, metric, id string, port int) error {
	const connections, requests = 8, 2000
	used, err := cpuDuring(ctx, t, id, func() error {
		failed := make(chan error, connections)
		for range connections {
			go func() { failed <- ask(port, requests) }() // waited for below
		}
		var errs []error
		for range connections {
			errs = append(errs, <-failed)
		}
		return errors.Join(errs...)
	})
	if err == nil {
		r.add(who, metric, milliseconds, used.Seconds()*1000/(connections*requests/1000))
	}
	return err
}

func ask(port, requests int) error {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	request := make([]byte, 1024)
	for range requests {
		if _, err := c.Write(request); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, request); err != nil {
			return err
		}
	}
	return nil
}

// cpuDuring is the CPU time that a container uses for some work.
func cpuDuring(ctx context.Context, t *target, id string, work func() error) (time.Duration, error) {
	read := func() (uint64, error) {
		s, err := t.cri.ContainerStats(ctx, &runtime.ContainerStatsRequest{ContainerId: id})
		return s.GetStats().GetCpu().GetUsageCoreNanoSeconds().GetValue(), err
	}
	before, err := read()
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	after, err := read()
	return time.Duration(after - before), err
}

// watchAll watches containers until stop, which waits until they are not watched.
func watchAll(ctx context.Context, t *target, query string, ids ...string) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{}, len(ids))
	for _, id := range ids {
		go func() { // ends with stop
			defer func() { ended <- struct{}{} }()
			if body, err := t.stream(ctx, "/v1/syscalls?for=1h&pod="+url.QueryEscape(id)+query); err == nil {
				io.Copy(io.Discard, body)
				body.Close()
			}
		}()
	}
	stop = func() error {
		cancel()
		for range ids {
			<-ended
		}
		return t.untilWatched(0)
	}
	if err := t.untilWatched(len(ids)); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// untilWatched waits until so many containers' system calls are watched.
func (t *target) untilWatched(want int) error {
	series := fmt.Sprintf("vitrine_syscall_watches{what=\"counts\"} %d\n", want)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		page, err := t.Metrics()
		if err == nil && strings.Contains(page, series) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d containers are not watched within a minute: %w", want, err)
		}
	}
}

// stream asks the admin socket for an answer that takes long.
func (t *target) stream(ctx context.Context, path string) (io.ReadCloser, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", t.API())
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://vitrine"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// listens is the first port that a container listens on.
func listens(ctx context.Context, t *target, id string) (int, error) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		status, err := t.cri.ContainerStatus(ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true})
		if err != nil {
			return 0, err
		}
		if _, rest, found := strings.Cut(status.GetInfo()["info"], `"port":`); found {
			if i := strings.IndexAny(rest, ",}"); i > 0 {
				return strconv.Atoi(strings.TrimSpace(rest[:i]))
			}
		}
		if time.Now().After(deadline) {
			return 0, errors.New("the server listens on no port that the daemon sees: is this a kernel with BTF?")
		}
	}
}
