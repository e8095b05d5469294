package observe

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// Secrets that a run is full of. Each is of its own shape, so that a find names its source.
var canaries = map[string]string{
	"registry password":       "canaryPassword7391",
	"registry token":          "canaryToken5517",
	"signed URL":              "canarySignature8260",
	"user info of a URL":      "canaryUserinfo3305",
	"environment":             "canaryEnvironment4478",
	"arguments":               "canaryArgument9127",
	"arguments of an exec":    "canaryExec6043",
	"arguments of a failure":  "canaryFailing1186",
	"environment of failures": "canaryFailenv2039",
}

// leaks names the canaries that a text holds, plain or in base64.
func leaks(where, body string) (found []string) {
	for what, canary := range canaries {
		for _, form := range []string{canary, base64.StdEncoding.EncodeToString([]byte("me:" + canary))} {
			if at := strings.Index(body, form); at >= 0 {
				found = append(found, fmt.Sprintf("%s in %s: …%q…", what, where, body[max(0, at-120):min(len(body), at+len(form)+40)]))
			}
		}
	}
	return found
}

// Nothing that the daemon or a monitor says holds a secret of what it runs: not the
// log at level debug, no span, no metric, no event, no answer of an error, on the node
// or at the Collector.
func TestSecretsLeaveNeitherTheNodeNorTheRoom(t *testing.T) {
	s := startSink(t)
	c := startCollector(t, s)
	proxy := harness.Must(fixture.StartProxy(hub.Addr))(t)
	defer proxy.Close()
	n := start(t, harness.Options{Env: c.env("grpc"), RegistriesConf: fixture.RegistriesConf(hub.Addr, proxy.Addr)})
	var answers []string
	told := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: no error", what)
			return
		}
		answers = append(answers, what+": "+err.Error())
	}
	events := harness.Must(n.cri.GetContainerEvents(n.ctx, &runtime.GetEventsRequest{}))(t)
	heard := make(chan string)
	go func() { // ends with the test's context
		var all strings.Builder
		for {
			e, err := events.Recv()
			if err != nil {
				heard <- all.String()
				return
			}
			fmt.Fprintln(&all, e)
		}
	}()

	pullsWithSecrets(t, n, proxy, told)

	ctx, traceID := harness.Traced(n.ctx)
	pod := n.Pod("secretive")
	sandbox := harness.Must(n.cri.RunPod(ctx, pod))(t)
	container := func(name, env string, command ...string) *runtime.ContainerConfig {
		config := harness.Container(pod, name, n.image, command...)
		config.Envs = append(config.Envs, &runtime.KeyValue{Key: "API_KEY", Value: []byte(env)})
		return config
	}
	id := harness.Must(n.cri.Run(ctx, sandbox, pod, container("c", canaries["environment"], "/bin/sh", "-c", "sleep 1000; : "+canaries["arguments"])))(t)
	harness.Must(n.cri.Exec(ctx, id, 0, "/bin/sh", "-c", ": "+canaries["arguments of an exec"]))(t)
	missing := harness.Must(n.cri.Exec(ctx, id, 0, "/bin/absent", canaries["arguments of an exec"]))(t)
	if missing.ExitCode != 127 || len(missing.Stderr) == 0 {
		t.Errorf("exec of what is absent: %d %q, want 127 and why", missing.ExitCode, missing.Stderr)
	}
	answers = append(answers, string(missing.Stderr))
	_, err := n.cri.Exec(ctx, id, 1, "/bin/sh", "-c", "sleep 100; : "+canaries["arguments of an exec"])
	told("exec that takes too long", err)
	broken := harness.Must(n.cri.Create(ctx, sandbox, pod, container("dead", canaries["environment of failures"], "/bin/sh", "-c", "exit 3; : "+canaries["arguments of a failure"])))(t)
	n.must(n.cri.Start(ctx, broken))
	harness.Must(n.cri.WaitExit(ctx, broken))(t)
	absent, err := n.cri.Create(ctx, sandbox, pod, container("absent", canaries["environment of failures"], "/bin/absent", canaries["arguments of a failure"]))
	if err == nil {
		err = n.cri.Start(ctx, absent)
	}
	told("start of what is absent", err)
	n.must(n.cri.Stop(ctx, id, 0))
	var found []string
	for _, path := range []string{"/v1/traces?reads=1&limit=1000", "/v1/traces/" + traceID, "/v1/status"} {
		found = append(found, leaks(path, harness.Must(n.Get(path))(t))...)
	}
	found = append(found, leaks("/metrics", harness.Must(n.Metrics())(t))...)
	for _, path := range harness.Must(filepath.Glob(filepath.Join(n.State(), "containers/*/monitor.log")))(t) {
		found = append(found, leaks("a monitor's log", string(harness.Must(os.ReadFile(path))(t)))...)
	}
	n.must(n.cri.RemovePod(ctx, sandbox))

	eventually(t, "arrival of every span", func() string { return n.absent(s, traceID) })
	eventually(t, "arrival of the log", func() string {
		if have := s.bodies(traceID); !slices.Contains(have, "sandbox removed") {
			return strings.Join(have, ", ")
		}
		return ""
	})
	n.must(n.Stop()) // sends the rest, and ends the stream of events

	found = append(found, leaks("the events", <-heard)...)
	for _, a := range answers {
		found = append(found, leaks("an answer", a)...)
	}
	s.mu.Lock()
	for _, raw := range s.raw {
		found = append(found, leaks("what the Collector received", string(raw))...)
	}
	s.mu.Unlock()
	found = append(found, leaks("the daemon's log", string(harness.Must(os.ReadFile(n.DaemonLog()))(t)))...)
	slices.Sort(found)
	for _, f := range slices.Compact(found) {
		t.Error(f)
	}
	if len(s.raw) < 3 || len(answers) < 5 {
		t.Errorf("the test saw only %d bodies and %d answers", len(s.raw), len(answers))
	}
}

// pullsWithSecrets fails in the ways in which a registry's answer or a library's
// error repeats what it was given.
func pullsWithSecrets(t *testing.T, n *node, proxy *fixture.Proxy, told func(string, error)) {
	t.Helper()
	ref := strings.Replace(hub.Image, hub.Addr, proxy.Addr, 1)
	pull := func(what string, fault fixture.Fault, auth *runtime.AuthConfig) {
		t.Helper()
		defer proxy.Inject(fault)()
		_, err := n.cri.PullImage(n.ctx, &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: ref}, Auth: auth})
		told(what, err)
	}
	password := &runtime.AuthConfig{Username: "me", Password: canaries["registry password"]}
	pull("wrong password", fixture.Fault{Status: 401, Header: http.Header{"Www-Authenticate": {`Basic realm="r"`}}, Body: canaries["registry password"]}, password)
	pull("wrong token", fixture.Fault{Status: 401, Header: http.Header{"Www-Authenticate": {`Basic realm="r"`}}}, &runtime.AuthConfig{RegistryToken: canaries["registry token"]})
	away := "http://me:" + canaries["user info of a URL"] + "@127.0.0.1:1/blob?X-Amz-Signature=" + canaries["signed URL"]
	pull("redirect to a signed URL", fixture.Fault{Method: "GET", Path: "/blobs/", Status: 307, Header: http.Header{"Location": {away}}}, nil)
	pull("manifest at a signed URL", fixture.Fault{Path: "/manifests/", Status: 307, Header: http.Header{"Location": {away}}}, nil)
}
