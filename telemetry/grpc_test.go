package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

func jsonOf(v any) ([]byte, error) { return json.Marshal(v) }

// fakeCRI answers a few calls in ways worth telling about.
type fakeCRI struct {
	runtime.UnimplementedRuntimeServiceServer
	entered, leave chan struct{}
}

func (f *fakeCRI) Version(context.Context, *runtime.VersionRequest) (*runtime.VersionResponse, error) {
	return &runtime.VersionResponse{Version: "v1"}, nil
}

func (f *fakeCRI) RunPodSandbox(ctx context.Context, r *runtime.RunPodSandboxRequest) (*runtime.RunPodSandboxResponse, error) {
	m := r.GetConfig().GetMetadata()
	ctx, span := Start(ctx, "lifecycle.run_sandbox", KeyPodName.String(m.GetName()), KeyNamespace.String(m.GetNamespace()))
	var err error
	defer span.End(&err)
	if f.entered != nil {
		f.entered <- struct{}{}
		<-f.leave
	}
	switch r.GetRuntimeHandler() {
	case "broken":
		panic("no such thing")
	case "missing":
		err = errors.New("attach network: no free address")
		return nil, status.Error(codes.Unknown, err.Error())
	}
	_, cni := Start(ctx, "network.cni", KeyCNIPlugin.String("/opt/cni/bin/bridge"), KeyCNICommand.String("ADD"))
	cni.End(nil)
	return &runtime.RunPodSandboxResponse{PodSandboxId: "x"}, nil
}

func (f *fakeCRI) ContainerStatus(context.Context, *runtime.ContainerStatusRequest) (*runtime.ContainerStatusResponse, error) {
	return nil, status.Error(codes.NotFound, "no container abc")
}

func (f *fakeCRI) GetContainerEvents(_ *runtime.GetEventsRequest, s grpc.ServerStreamingServer[runtime.ContainerEventResponse]) error {
	_, span := Start(s.Context(), "cri.events")
	span.End(nil)
	panic(errors.New("stream bug"))
}

func serve(t *testing.T, tel *Telemetry, f *fakeCRI) runtime.RuntimeServiceClient {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cri.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(tel.ServerOptions()...)
	runtime.RegisterRuntimeServiceServer(server, f)
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); done.Wait() })
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return runtime.NewRuntimeServiceClient(conn)
}

func sandbox(handler string) *runtime.RunPodSandboxRequest {
	return &runtime.RunPodSandboxRequest{RuntimeHandler: handler, Config: &runtime.PodSandboxConfig{Metadata: &runtime.PodSandboxMetadata{Name: "web", Namespace: "shop", Uid: "u1"}}}
}

func TestACallIsOneServerSpanInTheKubeletsTrace(t *testing.T) {
	tel, _ := start(t, Config{})
	cri := serve(t, tel, &fakeCRI{})
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", parent)
	if _, err := cri.RunPodSandbox(ctx, sandbox("")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the span", func() bool {
		f := tel.Find("shop/web", false, 1)
		return len(f) == 1 && !waterfall.Summarize(f[0]).Unfinished
	})
	found := tel.Find("shop/web", false, 1)[0]
	if found.ID != traceID(parent) || len(found.Spans) != 3 {
		t.Fatalf("trace %s with %d spans", found.ID, len(found.Spans))
	}
	root := found.Roots()[0]
	if root.Kind != "server" || root.ParentID != "00f067aa0ba902b7" || root.Name != "runtime.v1.RuntimeService/RunPodSandbox" ||
		root.Text("rpc.system.name") != "grpc" || root.Text("rpc.response.status_code") != "OK" {
		t.Errorf("server span %+v", root)
	}
	open := scrape(t, tel, "/metrics", "application/openmetrics-text; version=1.0.0")
	for _, want := range []string{
		`vitrine_cri_request_duration_seconds_bucket{code="OK",handler="",method="RunPodSandbox",le="60.0"}`,
		`trace_id="4bf92f3577b34da6a3ce929d0e0e4736"`,
		`vitrine_cni_plugin_duration_seconds_count{command="ADD",outcome="ok",plugin="bridge"} 1`,
	} {
		if !strings.Contains(open, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestAPanicIsAnsweredCountedAndLoggedAndTheServerGoesOn(t *testing.T) {
	tel, log := start(t, Config{})
	cri := serve(t, tel, &fakeCRI{})
	if _, err := cri.RunPodSandbox(t.Context(), sandbox("broken")); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("unary: %v", err)
	}
	events, err := cri.GetContainerEvents(t.Context(), &runtime.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := events.Recv(); status.Code(err) != codes.Internal {
		t.Errorf("stream: %v", err)
	}
	if _, err := cri.Version(t.Context(), &runtime.VersionRequest{}); err != nil {
		t.Errorf("the server does not go on: %v", err)
	}
	for _, method := range []string{"RunPodSandbox", "GetContainerEvents"} {
		if got := sample(t, tel, `vitrine_panics_total{method="`+method+`"}`); got != "1" {
			t.Errorf("panics of %s = %q", method, got)
		}
	}
	found := tel.Find("shop/web", false, 1)[0]
	root := found.Roots()[0]
	if !root.Error || len(root.Events) != 1 || !strings.Contains(root.Events[0].Attributes["exception.stacktrace"].(string), "RunPodSandbox") {
		t.Errorf("span of the panic: %+v", root)
	}
	if !strings.Contains(log.String(), "panic in a call") || !strings.Contains(log.String(), "trace_id="+found.ID) {
		t.Errorf("log: %s", log)
	}
}

func TestFailuresAreToldOnTheSpan(t *testing.T) {
	tel, _ := start(t, Config{})
	cri := serve(t, tel, &fakeCRI{})
	if _, err := cri.RunPodSandbox(t.Context(), sandbox("missing")); err == nil {
		t.Fatal("no error")
	}
	summary := waterfall.Summarize(tel.Find("shop/web", false, 1)[0])
	if summary.Error != "attach network: no free address" {
		t.Errorf("summary %+v", summary)
	}
	if _, err := cri.ContainerStatus(t.Context(), &runtime.ContainerStatusRequest{}); status.Code(err) != codes.NotFound {
		t.Fatal(err)
	}
	if got := tel.Find("", false, 10); len(got) != 1 {
		t.Errorf("a kubelet's look-up is among what acts: %d traces", len(got))
	}
	reads := tel.Find("", true, 10)
	if len(reads) != 2 || reads[0].Roots()[0].Error || waterfall.Summarize(reads[0]).Error != "NOT_FOUND: no container abc" {
		t.Errorf("look-up: %+v", reads[0].Roots()[0])
	}
}

func TestAStepThatHangsIsSeenWhileItHangs(t *testing.T) {
	tel, _ := start(t, Config{})
	f := &fakeCRI{entered: make(chan struct{}), leave: make(chan struct{})}
	cri := serve(t, tel, f)
	finished := make(chan error)
	go func() { _, err := cri.RunPodSandbox(t.Context(), sandbox("")); finished <- err }()
	<-f.entered
	server := httptest.NewServer(tel.APIHandler())
	defer server.Close()
	get := func(path string, v any) {
		t.Helper()
		answer, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if err := json.NewDecoder(answer.Body).Decode(v); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("GET %s: %d, %v", path, answer.StatusCode, err)
		}
	}
	var list Traces
	get("/v1/traces?pod=shop/web", &list)
	if len(list.Traces) != 1 || !list.Traces[0].Unfinished || list.Traces[0].Spans != 2 {
		t.Fatalf("list %+v", list)
	}
	var one Trace
	get("/v1/traces/"+list.Traces[0].ID, &one)
	if len(one.Spans) != 2 || !one.Spans[1].Unfinished || one.Spans[1].Duration() <= 0 {
		t.Errorf("trace %+v", one)
	}
	for _, series := range []string{`vitrine_cri_requests_inflight{method="RunPodSandbox"}`, `vitrine_operation_inflight{phase="lifecycle.run_sandbox"}`} {
		if got := sample(t, tel, series); got != "1" {
			t.Errorf("%s = %q", series, got)
		}
	}
	if got := sample(t, tel, `vitrine_operation_inflight_age_seconds_max{phase="lifecycle.run_sandbox"}`); got == "" || got == "0" {
		t.Errorf("age = %q", got)
	}
	close(f.leave)
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the step", func() bool { return len(tel.live.records(time.Now())) == 0 })
	list = Traces{}
	get("/v1/traces?pod=shop/web", &list)
	if list.Traces[0].Unfinished || list.Traces[0].Spans != 3 {
		t.Errorf("after the end: %+v", list)
	}
}

func TestAPIRefusesWhatIsNoQuery(t *testing.T) {
	tel, _ := start(t, Config{})
	for path, want := range map[string]int{
		"/v1/traces?limit=0": 400, "/v1/traces?limit=x": 400, "/v1/traces/xyz": 400,
		"/v1/traces/" + strings.Repeat("a", 32): 404, "/v1/traces?pod=nobody/nothing": 200,
	} {
		answer := httptest.NewRecorder()
		tel.APIHandler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != want || !json.Valid(answer.Body.Bytes()) {
			t.Errorf("GET %s: %d %s, want %d", path, answer.Code, answer.Body, want)
		}
	}
}
