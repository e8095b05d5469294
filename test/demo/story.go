package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/test/harness"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// story is the pod's life.
type story struct {
	*harness.Daemon
	cri    *harness.CRI
	image  string // as the registry names it
	ref    string // as PullImage returned it
	pod    *runtime.PodSandboxConfig
	box    *runtime.ContainerConfig
	server *runtime.ContainerConfig

	sandbox, boxID, serverID string
	traces                   []string
}

// traced begins a trace that the look at the end draws.
func (s *story) traced(ctx context.Context) context.Context {
	ctx, id := harness.Traced(ctx)
	s.traces = append(s.traces, id)
	return ctx
}

func (s *story) pull(ctx context.Context) (err error) {
	tell("PullImage, through the CRI socket as kubelet would")
	from := time.Now()
	if s.ref, err = s.cri.Pull(s.traced(ctx), s.image); err != nil {
		return err
	}
	show("%.19s… in %v", s.ref, time.Since(from).Round(time.Millisecond))
	return nil
}

func (s *story) run(ctx context.Context) (err error) {
	tell("A pod with a CNI bridge network")
	s.pod = s.Pod("demo")
	from := time.Now()
	if s.sandbox, err = s.cri.RunPod(s.traced(ctx), s.pod); err != nil {
		return err
	}
	took := time.Since(from)
	status, err := s.cri.PodStatus(ctx, s.sandbox)
	if err != nil {
		return err
	}
	show("sandbox %.13s is ready after %v, address %s", s.sandbox, took.Round(time.Millisecond), status.GetNetwork().GetIp())

	tell("Two containers in it: a web server, and a program that asks it and ends")
	s.server = harness.Container(s.pod, "server", s.ref, "/bin/sh", "-c", "echo 'a page served inside the pod' >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
	if s.serverID, err = s.cri.Run(ctx, s.sandbox, s.pod, s.server); err != nil {
		return err
	}
	s.box = harness.Container(s.pod, "box", s.ref, "/bin/sh", "-c",
		"echo \"hello from $(hostname), pid $$\"; until wget -q -O - http://127.0.0.1/; do sleep 0.05; done; echo 'something to complain about' >&2; exit 3")
	from = time.Now()
	if s.boxID, err = s.cri.Create(s.traced(ctx), s.sandbox, s.pod, s.box); err != nil {
		return err
	}
	created := time.Since(from)
	if err := s.cri.Start(s.traced(ctx), s.boxID); err != nil {
		return err
	}
	show("created after %v, started after %v", created.Round(100*time.Microsecond), time.Since(from).Round(100*time.Microsecond))
	exit, err := s.cri.WaitExit(ctx, s.boxID)
	if err != nil {
		return err
	}
	show("exited with code %d (%s) after %v", exit.ExitCode, exit.Reason, time.Duration(exit.FinishedAt-exit.StartedAt).Round(100*time.Microsecond))
	return nil
}

func (s *story) look(ctx context.Context) error {
	tell("Its log, as kubectl logs reads it")
	raw, err := os.ReadFile(harness.LogPath(s.pod, s.box))
	if err != nil {
		return err
	}
	indent(string(raw))

	tell("A command in the running server")
	r, err := s.cri.Exec(ctx, s.serverID, 10, "/bin/sh", "-c", "echo \"in the container: $(id -u) on $(hostname)\"; ps | wc -l")
	if err != nil {
		return err
	}
	indent(string(r.Stdout))

	tell("What the daemon counted: an excerpt of /metrics")
	page, err := s.Metrics()
	if err != nil {
		return err
	}
	indent(excerpt(page))

	tell("Where the time went, from the request to the first byte of the log")
	return s.drawTraces(ctx)
}

// drawTraces waits for what monitors report a moment later, then draws the traces
// of pull, sandbox, create and start on one axis each.
func (s *story) drawTraces(ctx context.Context) error {
	for _, id := range s.traces {
		trace, err := s.Trace(ctx, id)
		if err != nil {
			return err
		}
		var text strings.Builder
		if err := waterfall.Render(&text, []*waterfall.Trace{trace}, waterfall.Options{}); err != nil {
			return err
		}
		indent(text.String())
		fmt.Println()
	}
	return nil
}

// excerpt picks lines of the families that a reader asks about first.
func excerpt(page string) string {
	var out strings.Builder
	for line := range strings.Lines(page) {
		for _, want := range []string{
			`cri_request_duration_seconds_sum{code="OK",handler="",method="RunPodSandbox"}`,
			`cri_request_duration_seconds_sum{code="OK",handler="",method="StartContainer"}`,
			`cri_request_duration_seconds_count{code="OK",handler="",method="StartContainer"}`,
			"cni_plugin_duration_seconds_sum", "container_exits_total", "image_pull_bytes_total", "log_bytes_total",
		} {
			if !strings.HasPrefix(line, "#") && strings.Contains(line, want) && !strings.HasSuffix(line, " 0\n") {
				out.WriteString(line)
			}
		}
	}
	return out.String()
}

func (s *story) remove(ctx context.Context, before *harness.Census) error {
	tell("Everything is removed")
	now, err := s.Census()
	if err != nil {
		return err
	}
	show("on the host now: %s", now.Summary())
	if err := s.cri.RemovePod(ctx, s.sandbox); err != nil {
		return err
	}
	left, err := s.Left(ctx, before, 8, 2*time.Second)
	if err != nil {
		return err
	}
	if left != "" {
		return fmt.Errorf("the pod left something behind:\n%s", left)
	}
	show("pod removed: the census is what it was before the pod")
	if _, err := s.cri.RemoveImage(ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: s.ref}}); err != nil {
		return err
	}
	if err := s.Stop(); err != nil {
		return err
	}
	if err := s.wipe(ctx); err != nil {
		return err
	}
	after, err := s.Instance.Census()
	if err != nil {
		return err
	}
	show("daemon stopped, host wiped: %s", after.Summary())
	if left := after.Remains(); left != "" {
		return fmt.Errorf("the daemon left something behind:\n%s", left)
	}
	show("nothing is left: no process, mount, namespace, cgroup, link, rule, lease or layer")
	return nil
}

// wipe removes what belongs to the node and outlives its pods: the bridge of the
// embedded network and its masquerading.
func (s *story) wipe(ctx context.Context) error {
	bin, err := harness.Bin()
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "vitrined"), append([]string{"wipe", "--images"}, s.Args()...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("vitrined wipe: %w: %.500s", err, out)
	}
	return nil
}

func indent(text string) {
	for line := range strings.Lines(text) {
		fmt.Print("   ", line)
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		fmt.Println()
	}
}
