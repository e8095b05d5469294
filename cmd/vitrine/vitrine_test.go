package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/telemetry"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/telemetry/why"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC
	goleak.VerifyTestMain(m)
}

// vitrine runs the command and returns what it printed and its exit code.
func vitrine(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return vitrineIn(t.Context(), args...)
}

func vitrineIn(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	var out, problems bytes.Buffer
	code = run(ctx, args, &out, &problems)
	return out.String(), problems.String(), code
}

// daemon serves a handler on an admin socket until the test ends.
func daemon(t *testing.T, handler http.Handler) (state string) {
	t.Helper()
	state = t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(state, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Close(); done.Wait() })
	return state
}

// remembered is a pod's start as a node remembers it.
func remembered() map[string]*waterfall.Trace {
	begin := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC).UnixNano()
	span := func(id, parent, service, name string, from, to int64, attrs map[string]any) waterfall.Span {
		s := waterfall.Span{ID: id, ParentID: parent, Service: service, Name: name, Start: begin + from*1e6, End: begin + to*1e6, Attributes: attrs}
		if parent == "" {
			s.Kind = "server"
		}
		return s
	}
	pod := map[string]any{"k8s.pod.name": "web", "k8s.namespace.name": "shop", "rpc.response.status_code": "OK"}
	app := map[string]any{"k8s.pod.name": "web", "k8s.namespace.name": "shop", "k8s.container.name": "app", "rpc.response.status_code": "OK"}
	failed := span("5", "", "vitrined", "runtime.v1.RuntimeService/StartContainer", 70, 75, map[string]any{
		"k8s.pod.name": "web", "k8s.namespace.name": "shop", "k8s.container.name": "app",
		"rpc.response.status_code": "INVALID_ARGUMENT", "exception.message": "start container app: exec: /bin/nothing: no such file"})
	traces := map[string]*waterfall.Trace{}
	for i, spans := range [][]waterfall.Span{
		{span("1", "", "vitrined", "runtime.v1.RuntimeService/RunPodSandbox", 0, 40, pod),
			span("2", "1", "vitrined", "network.attach", 4, 39, nil)},
		{span("3", "", "vitrined", "runtime.v1.RuntimeService/CreateContainer", 45, 65, app),
			span("4", "3", "vitrine-monitor", "monitor.create", 50, 64, nil)},
		{failed},
	} {
		id := strings.Repeat(fmt.Sprint(i+1), 32)
		traces[id] = &waterfall.Trace{ID: id, Spans: spans}
	}
	return traces
}

func tracesHandler(traces map[string]*waterfall.Trace) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		var list []waterfall.Summary
		if q := r.FormValue("pod"); q == "" || q == "shop/web" {
			for _, t := range traces {
				list = append(list, waterfall.Summarize(t))
			}
		}
		slices.SortFunc(list, func(a, b waterfall.Summary) int { return int(b.Start - a.Start) })
		_ = json.NewEncoder(w).Encode(map[string]any{"traces": list})
	})
	mux.HandleFunc("GET /v1/traces/{id}", func(w http.ResponseWriter, r *http.Request) {
		t := traces[r.PathValue("id")]
		if t == nil {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":"no trace of this id on this node"}`)
			return
		}
		_ = json.NewEncoder(w).Encode(t)
	})
	mux.HandleFunc("GET /v1/lives", func(w http.ResponseWriter, r *http.Request) {
		lives := []*waterfall.Trace{}
		if r.FormValue("subject") == "shop/web" {
			begun := time.Date(2026, 11, 21, 9, 30, 0, int(65*time.Millisecond), time.UTC)
			lives = append(lives, &waterfall.Trace{ID: strings.Repeat("a", 32), Spans: []waterfall.Span{{
				ID: strings.Repeat("a", 16), Name: "container.life", Service: "vitrined", Start: begun.UnixNano(), End: begun.Add(3 * time.Hour).UnixNano(),
				Attributes: map[string]any{"k8s.namespace.name": "shop", "k8s.pod.name": "web", "k8s.container.name": "app"},
				Events:     []waterfall.Event{{Name: "container.oom", Time: begun.Add(time.Hour).UnixNano(), Attributes: map[string]any{"vitrine.oom.victim": "worker"}}},
				Links:      []waterfall.Link{{TraceID: strings.Repeat("2", 32), SpanID: strings.Repeat("3", 16), Kind: "create"}},
			}}})
		}
		_ = json.NewEncoder(w).Encode(lives)
	})
	return mux
}

func TestTraceDrawsTheCallsOfAPodOneAfterAnother(t *testing.T) {
	state := daemon(t, tracesHandler(remembered()))
	out, problems, code := vitrine(t, "trace", "shop/web", "--state", state, "--width", "100")
	if code != 0 || problems != "" {
		t.Fatalf("code %d, %s", code, problems)
	}
	golden.Check(t, filepath.Join("testdata", "trace.txt"), out)
}

func TestTraceListsWhatTheNodeRemembers(t *testing.T) {
	state := daemon(t, tracesHandler(remembered()))
	out, _, code := vitrine(t, "trace", "--state", state)
	if code != 0 {
		t.Fatal(out)
	}
	golden.Check(t, filepath.Join("testdata", "list.txt"), out)
}

func TestTraceAsJSONIsWhatTheNodeSaid(t *testing.T) {
	traces := remembered()
	state := daemon(t, tracesHandler(traces))
	id := strings.Repeat("2", 32)
	out, _, code := vitrine(t, "trace", id, "-o", "json", "--state", state)
	var got []*waterfall.Trace
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || len(got) != 1 || got[0].ID != id || len(got[0].Spans) != 2 {
		t.Errorf("code %d, %v: %s", code, err, out)
	}
}

func TestTraceSpeaksWithTheRealRoom(t *testing.T) {
	tel, err := telemetry.Setup(t.Context(), telemetry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Shutdown(context.Background())
	ctx, outer := telemetry.Start(tel.Context(t.Context()), "lifecycle.run_sandbox", telemetry.KeyPodUID.String("abcdef-123"))
	_, inner := telemetry.Start(ctx, "network.attach")
	mux := http.NewServeMux()
	mux.Handle("/v1/traces", tel.APIHandler())
	mux.Handle("/v1/traces/", tel.APIHandler())
	mux.HandleFunc("GET /v1/lives", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") })
	state := daemon(t, mux)
	out, problems, code := vitrine(t, "trace", "abcdef", "--state", state)
	if code != 0 || !strings.Contains(out, "└─network.attach") || !strings.Contains(out, "…") {
		t.Errorf("a step that is going on: code %d\n%s%s", code, out, problems)
	}
	inner.End(nil)
	outer.End(nil)
	out, _, _ = vitrine(t, "trace", "--list", "abcdef", "--state", state)
	if !strings.Contains(out, "lifecycle.run_sandbox") || !strings.Contains(out, "ok") {
		t.Errorf("list:\n%s", out)
	}
}

func TestEveryRefusalIsOneLineThatSaysWhy(t *testing.T) {
	state := daemon(t, tracesHandler(remembered()))
	dead := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dead, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close() // the socket of a daemon that died
	t.Setenv("PATH", dead)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no socket":     {[]string{"status", "--state", t.TempDir()}, "no daemon answers: there is no socket"},
		"no directory":  {[]string{"trace", "--state", "/nonexistent/state"}, "no daemon answers: there is no socket /nonexistent/state/api.sock"},
		"dead daemon":   {[]string{"events", "--api", filepath.Join(dead, "api.sock")}, "vitrined is not running"},
		"no fallback":   {[]string{"check", "--state", dead}, "there is no vitrined beside this program or in PATH"},
		"json, dead":    {[]string{"config", "-o", "json", "--state", dead}, "without it there is text only"},
		"unknown pod":   {[]string{"trace", "shop/none", "--state", state}, `the node remembers no trace of "shop/none"`},
		"unknown trace": {[]string{"trace", strings.Repeat("f", 32), "--state", state}, "no trace of this id on this node"},
		"old daemon":    {[]string{"status", "--state", state}, "the daemon answers 404 Not Found"},
		"bad output":    {[]string{"status", "-o", "xml"}, `output "xml" is neither text nor json`},
		"bad colour":    {[]string{"trace", "--color", "pink"}, `color "pink" is none of`},
		"wipe unasked":  {[]string{"wipe", "--state", state}, "say --yes"},
		"wipe, dead":    {[]string{"wipe", "--yes", "--state", state}, "no daemon answers on"},
		"no command":    {[]string{"explode"}, `unknown command "explode"`},
	} {
		out, problems, code := vitrine(t, c.args...)
		if code != 1 || out != "" || !strings.HasPrefix(problems, "vitrine: ") || !strings.Contains(problems, c.want) || strings.Count(problems, "\n") != 1 {
			t.Errorf("%s: code %d, stdout %q, stderr %q", name, code, out, problems)
		}
	}
}

func TestStatusShowsWhatHangsFirst(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	var s api.Status
	if err := json.Unmarshal([]byte(`{"version":"0.1","pid":42,"startedAt":"2026-11-21T09:00:00Z",
		"sandboxes":{"ready":3,"not-ready":1},"containers":{},"images":7,"network":"no CNI\u001b[2J\nconfiguration",
		"operations":[
			{"subject":"shop/new","name":"run_sandbox","phase":"files","since":"2026-11-21T09:59:59.9Z","began":"2026-11-21T09:59:59.8Z"},
			{"subject":"shop/web","name":"run_sandbox","phase":"network.attach","since":"2026-11-21T09:58:30Z","began":"2026-11-21T09:58:29Z","blocked":{"on":"network.cni calico ADD","since":"2026-11-21T09:58:31Z"}}]}`), &s); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := printStatus(&b, s, now); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, filepath.Join("testdata", "status.txt"), b.String())
}

func TestWhySaysTheCauseFirst(t *testing.T) {
	verdict := why.Judge(why.Evidence{Pod: "shop/web", Sandbox: "ready", Now: time.Unix(0, remembered()[strings.Repeat("3", 32)].Spans[0].Start),
		Traces: slices.Collect(maps.Values(remembered()))})
	for i := range verdict.Cause.Facts {
		verdict.Cause.Facts[i].Time = verdict.Cause.Facts[i].Time.UTC()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/why", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("subject") != "shop/web" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":"\"shop/none\": not found"}`)
			return
		}
		_ = json.NewEncoder(w).Encode(verdict)
	})
	state := daemon(t, mux)
	out, problems, code := vitrine(t, "why", "shop/web", "--state", state)
	if code != 0 || problems != "" {
		t.Fatalf("code %d, %s", code, problems)
	}
	golden.Check(t, filepath.Join("testdata", "why.txt"), out)
	var again why.Verdict
	out, _, _ = vitrine(t, "why", "shop/web", "-o", "json", "--state", state)
	if err := json.Unmarshal([]byte(out), &again); err != nil || again.Cause.Name != verdict.Cause.Name {
		t.Errorf("%v: %s", err, out)
	}
	if _, problems, code = vitrine(t, "why", "shop/none", "--state", state); code != 1 || problems != "vitrine: \"shop/none\": not found\n" {
		t.Errorf("code %d, %q", code, problems)
	}
}

func TestPullsShowProgressAndRate(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	var b strings.Builder
	if err := printPulls(&b, []api.Pull{
		{Ref: "registry.example/app:1", Since: now.Add(-10 * time.Second), Phase: "image.layers", Waiters: 2, Bytes: 50 << 20, Total: 200 << 20},
		{Ref: "registry.example/new\x1b[2J:1", Since: now.Add(-time.Second), Phase: "image.manifest", Waiters: 1},
	}, now); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, filepath.Join("testdata", "pulls.txt"), b.String())
	b.Reset()
	if err := printPulls(&b, nil, now); err != nil || b.String() != "no pull is going on\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestEventsFollowUntilInterrupted(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, `{"seq":1,"time":"2026-11-21T09:30:00Z","kind":"sandbox.ready","pod":"shop/web","sandbox":"aaaaaaaaaaaaaaaaaaaa"}`)
		fmt.Fprintln(w, `{"seq":2,"time":"2026-11-21T09:30:05Z","kind":"container.exited","pod":"shop/web","sandbox":"aaaaaaaaaaaaaaaaaaaa","container":"app","containerId":"bbbbbbbbbbbbbbbbbbbb","exit":{"code":137,"source":"monitor","reason":"OOMKilled","message":"killed by\nits own limit"}}`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	state := daemon(t, mux)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := &watched{want: map[string]func(){"container.exited": cancel}} // the person has seen enough
	var problems bytes.Buffer
	if code := run(ctx, []string{"events", "-f", "--state", state}, seen, &problems); code != 0 || problems.String() != "" {
		t.Errorf("code %d, %s", code, problems.String())
	}
	golden.Check(t, filepath.Join("testdata", "events.txt"), seen.text.String())
}

// Without -f the events are those that the history keeps.
func TestEventsThatHaveBeen(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/history", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"time":"2026-11-21T09:29:00Z","kind":"daemon","daemon":{"pid":1}}`)
		fmt.Fprintln(w, `{"time":"2026-11-21T09:30:00Z","kind":"event","namespace":"shop","pod":"web","sandbox":"aaaaaaaaaaaaaaaaaaaa","event":{"kind":"sandbox.ready"}}`)
	})
	out, problems, code := vitrine(t, "events", "--state", daemon(t, mux))
	if want := "09:30:00.000  sandbox.ready      aaaaaaaaaaaaa  shop/web\n"; code != 0 || problems != "" || out != want {
		t.Errorf("code %d, %q, %s", code, out, problems)
	}
}

func TestConfigAndCheckAskTheDaemonAndElseItsBinary(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"key":"state","value":"/run/v","source":"--state"},{"key":"telemetry.trace_bytes","value":16777216,"source":"default"},{"key":"image.storage_options","value":null,"source":"default"}]`)
	})
	mux.HandleFunc("GET /v1/check", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"feature":"cgroup v2","ok":false,"consequence":"no memory.high","room":"cgroup"},{"feature":"nft","ok":true,"consequence":"","room":"network"}]`)
	})
	state := daemon(t, mux)
	out, _, _ := vitrine(t, "config", "--state", state)
	checked, _, _ := vitrine(t, "check", "--state", state)
	golden.Check(t, filepath.Join("testdata", "host.txt"), out+checked)

	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "vitrined"), []byte("#!/bin/sh\necho played \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	empty := t.TempDir()
	out, problems, code := vitrine(t, "check", "--state", empty)
	if code != 0 || out != "played check --state "+empty+"\n" {
		t.Errorf("code %d, %q %q", code, out, problems)
	}
	out, _, _ = vitrine(t, "config", "--state", state, "--", "--config", "/etc/other.toml")
	if out != "played config --state "+state+" --config /etc/other.toml\n" {
		t.Errorf("with flags of its own: %q", out)
	}
}

// node is a CRI server with pods and images to remove.
type node struct {
	runtime.UnimplementedRuntimeServiceServer
	runtime.UnimplementedImageServiceServer
	mu   sync.Mutex
	done []string
}

func (n *node) note(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.done = append(n.done, what)
}

func (n *node) ListPodSandbox(context.Context, *runtime.ListPodSandboxRequest) (*runtime.ListPodSandboxResponse, error) {
	var items []*runtime.PodSandbox
	for _, name := range []string{"web", "stuck", "db"} {
		items = append(items, &runtime.PodSandbox{Id: name, Metadata: &runtime.PodSandboxMetadata{Name: name, Namespace: "shop"}})
	}
	return &runtime.ListPodSandboxResponse{Items: items}, nil
}

func (n *node) StopPodSandbox(_ context.Context, r *runtime.StopPodSandboxRequest) (*runtime.StopPodSandboxResponse, error) {
	if r.GetPodSandboxId() == "stuck" {
		return nil, status.Error(codes.DeadlineExceeded, "detach network: plugin hangs")
	}
	n.note("stop " + r.GetPodSandboxId())
	return &runtime.StopPodSandboxResponse{}, nil
}

func (n *node) RemovePodSandbox(_ context.Context, r *runtime.RemovePodSandboxRequest) (*runtime.RemovePodSandboxResponse, error) {
	n.note("remove " + r.GetPodSandboxId())
	return &runtime.RemovePodSandboxResponse{}, nil
}

func (n *node) ListImages(context.Context, *runtime.ListImagesRequest) (*runtime.ListImagesResponse, error) {
	return &runtime.ListImagesResponse{Images: []*runtime.Image{{Id: "sha256:1", RepoTags: []string{"registry.example/app:1"}}}}, nil
}

func (n *node) RemoveImage(_ context.Context, r *runtime.RemoveImageRequest) (*runtime.RemoveImageResponse, error) {
	n.note("remove " + r.GetImage().GetImage())
	return &runtime.RemoveImageResponse{}, nil
}

func TestWipeRemovesEverythingItCanAndNamesTheRest(t *testing.T) {
	state := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(state, "vitrine.sock"))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{}
	server := grpc.NewServer()
	runtime.RegisterRuntimeServiceServer(server, n)
	runtime.RegisterImageServiceServer(server, n)
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(listener) })
	defer func() { server.Stop(); done.Wait() }()

	out, problems, code := vitrine(t, "wipe", "--yes", "--images", "--state", state)
	if code != 1 || !strings.Contains(problems, "remove pod shop/stuck: detach network: plugin hangs") {
		t.Errorf("code %d, %s", code, problems)
	}
	for _, want := range []string{"removed pod shop/web\n", "removed pod shop/db\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("stdout lacks %q: %s", want, out)
		}
	}
	if slices.Contains(n.done, "remove stuck") || slices.Contains(n.done, "remove sha256:1") {
		t.Errorf("went on with what a failure forbids: %v", n.done)
	}
}
