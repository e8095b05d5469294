package telemetry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/pod"
)

// steps makes one trace of two spans.
func steps(tel *Telemetry) {
	ctx, outer := Start(tel.Context(context.Background()), "lifecycle.recover")
	_, inner := Start(ctx, "network.attach", KeyPodName.String("web"), KeyNamespace.String("shop"))
	inner.End(nil)
	outer.End(nil)
}

var ownSpans = []string{"vitrined lifecycle.recover", "vitrined network.attach"}

func sorted(names []string) []string { slices.Sort(names); return names }

func TestWithoutACollectorNothingIsExportedAndTheNodeRemembers(t *testing.T) {
	tel, _ := start(t, Config{})
	steps(tel)
	if tel.spans != nil || tel.records != nil || tel.points != nil {
		t.Error("an exporter was started")
	}
	if found := tel.Find("shop/web", false, 1); len(found) != 1 || len(found[0].Spans) != 2 {
		t.Fatalf("the node remembers %v", found)
	}
}

func TestSpansReachAGRPCCollectorWithItsHeaders(t *testing.T) {
	c := &collector{}
	tel, _ := start(t, Config{Endpoint: "http://" + c.serveGRPC(t), Headers: map[string]string{"x-tenant": "blue"}})
	steps(tel)
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sorted(c.names()); !slices.Equal(got, ownSpans) || !slices.Contains(c.headers, "blue") {
		t.Errorf("arrived: %v, headers %v", got, c.headers)
	}
	if got := sample(t, tel, `vitrine_telemetry_exported_total{signal="traces"}`); got != "2" {
		t.Errorf("exported = %s, want 2", got)
	}
}

func TestTheEnvironmentAloneConfiguresExport(t *testing.T) {
	c := &collector{}
	env(t, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+c.serveGRPC(t))
	env(t, "OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=green")
	env(t, "OTEL_SERVICE_NAME", "runtime-a")
	env(t, "OTEL_BSP_SCHEDULE_DELAY", "10")
	tel, _ := start(t, Config{})
	steps(tel)
	eventually(t, "export after the delay", func() bool { return len(c.names()) == 2 })
	if got := c.names(); !strings.HasPrefix(got[0], "runtime-a ") || c.headers[0] != "green" {
		t.Errorf("arrived: %v, headers %v", got, c.headers)
	}
}

func TestExportOverHTTPWithTLSAndOurOwnCertificate(t *testing.T) {
	files := certificates(t)
	c := &collector{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" {
			return // logs and metrics
		}
		body, _ := io.ReadAll(r.Body)
		var m collectortrace.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &m); err != nil || len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "wrong request", http.StatusBadRequest)
			return
		}
		_, _ = c.Export(r.Context(), &m)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	server.TLS = files.server
	server.StartTLS()
	t.Cleanup(server.Close)
	tel, log := start(t, Config{Endpoint: server.URL, Protocol: protocolHTTP, CAFile: files.ca, CertFile: files.cert, KeyFile: files.key})
	steps(tel)
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sorted(c.names()); !slices.Equal(got, ownSpans) {
		t.Errorf("arrived: %v\nlog: %s", got, log)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestExportOverGRPCWithTLS(t *testing.T) {
	files := certificates(t)
	c := &collector{}
	address := c.serveGRPC(t, grpc.Creds(credentials.NewTLS(files.server)))
	tel, log := start(t, Config{Endpoint: "https://" + address, CAFile: files.ca, CertFile: files.cert, KeyFile: files.key})
	steps(tel)
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sorted(c.names()); !slices.Equal(got, ownSpans) {
		t.Errorf("arrived: %v\nlog: %s", got, log)
	}
}

func TestACollectorThatNeverAnswersCostsNoTime(t *testing.T) {
	c := &collector{hold: make(chan struct{})}
	tel, _ := start(t, Config{Endpoint: "http://" + c.serveGRPC(t), QueueSize: 8, ExportDelay: time.Millisecond})
	begin := time.Now()
	for range 500 {
		steps(tel)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("1000 spans took %s", took)
	}
	if got := sample(t, tel, `vitrine_telemetry_dropped_total{reason="queue_full",signal="traces"}`); got == "0" || got == "" {
		t.Errorf("dropped = %q, want more than 0", got)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begin = time.Now()
	_ = tel.Shutdown(ctx) // its error says that the bound was hit
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Shutdown took %s with a bound of 100 ms", took)
	}
}

func TestADeadCollectorCostsNoTimeAndIsCounted(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close() // nobody listens there now
	tel, log := start(t, Config{Endpoint: "http://" + address, ExportDelay: time.Millisecond, ExportTimeout: 50 * time.Millisecond})
	steps(tel)
	eventually(t, "the drop", func() bool {
		return sample(t, tel, `vitrine_telemetry_dropped_total{reason="export_failed",signal="traces"}`) == "2"
	})
	if !strings.Contains(log.String(), "telemetry export is failing") {
		t.Errorf("log: %s", log)
	}
}

func TestSpoolKeepsSpansUntilACollectorTakesThem(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	tel, _ := start(t, Config{Endpoint: "http://" + address, SpoolDir: dir, ExportDelay: time.Millisecond, ExportTimeout: 50 * time.Millisecond})
	steps(tel)
	eventually(t, "a batch on disk", func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, "*.traces"))
		return len(files) > 0
	})
	_ = tel.Shutdown(t.Context()) // the collector is dead

	c := &collector{}
	again, _ := start(t, Config{Endpoint: "http://" + c.serveGRPC(t), SpoolDir: dir, ExportDelay: time.Millisecond})
	eventually(t, "the replay", func() bool { return len(c.names()) >= 2 })
	if got := sorted(c.names()); !slices.Equal(got, ownSpans) {
		t.Errorf("arrived: %v", got)
	}
	eventually(t, "an empty spool", func() bool { return again.spool.size(traces) == 0 })
}

func TestSamplingDecidesAboutExportAndNeverAboutTheNode(t *testing.T) {
	c := &collector{}
	env(t, "OTEL_TRACES_SAMPLER", "parentbased_always_off")
	tel, _ := start(t, Config{Endpoint: "http://" + c.serveGRPC(t)})
	steps(tel)
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.names(); len(got) != 0 {
		t.Errorf("exported although not sampled: %v", got)
	}
	if len(tel.Find("shop/web", false, 1)) != 1 {
		t.Error("the node has forgotten an unsampled trace")
	}
}

func TestBadSettingsAreNamedAndDoNotStopTheDaemon(t *testing.T) {
	env(t, "OTEL_TRACES_SAMPLER", "dice")
	env(t, "OTEL_TRACES_EXPORTER", "zipkin")
	env(t, "OTEL_BSP_MAX_QUEUE_SIZE", "many")
	env(t, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	env(t, "OTEL_LOGS_EXPORTER", "none")
	_, log := start(t, Config{})
	for _, want := range []string{"dice", "zipkin", "OTEL_BSP_MAX_QUEUE_SIZE=many"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log does not name %s:\n%s", want, log)
		}
	}
	for name, c := range map[string]Config{
		"endpoint": {Endpoint: "collector:4317"}, "level": {LogLevel: "loud"}, "format": {LogFormat: "xml"},
	} {
		if _, err := Setup(t.Context(), c); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

type certificateFiles struct {
	ca, cert, key string
	server        *tls.Config
}

// certificates makes one self-signed certificate for both sides.
func certificates(t *testing.T) certificateFiles {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := certificateFiles{ca: filepath.Join(dir, "ca.pem"), cert: filepath.Join(dir, "ca.pem"), key: filepath.Join(dir, "key.pem")}
	for path, block := range map[string]*pem.Block{f.ca: {Type: "CERTIFICATE", Bytes: der}, f.key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	f.server = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	return f
}
