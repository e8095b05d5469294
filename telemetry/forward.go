package telemetry

import (
	"bytes"
	"cmp"
	stdgzip "compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// forwarder passes what monitors report of one signal, logs or metrics, on to the
// collector. Reports wait in a bounded queue; what does not fit or does not arrive
// is dropped and counted, and nothing waits for it.
type forwarder struct {
	signal  string
	send    func(ctx context.Context, m proto.Message) error
	close   func()
	timeout time.Duration
	metrics *metrics
	failure func(error)

	items  chan forwarded
	stop   chan struct{}
	closed sync.Once
	done   sync.WaitGroup
	abort  context.CancelFunc
}

type forwarded struct {
	message proto.Message
	count   int
}

// forwardQueue is how many reports may wait.
const forwardQueue = 256

// startForwarder returns nil when the signal is not exported.
func startForwarder(ctx context.Context, c Config, signal string, m *metrics, failure func(error)) (*forwarder, error) {
	s, ok := forwardSettings(c, signal)
	if !ok {
		return nil, nil
	}
	f := &forwarder{signal: signal, timeout: s.timeout, metrics: m, failure: failure,
		items: make(chan forwarded, forwardQueue), stop: make(chan struct{})}
	security, err := tlsConfig(s.Config)
	if err != nil {
		return nil, err
	}
	if s.Protocol == protocolHTTP {
		transport := &http.Transport{TLSClientConfig: security, Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1}
		f.send, f.close = s.http(&http.Client{Transport: transport}), transport.CloseIdleConnections
	} else {
		creds := credentials.NewTLS(security)
		if s.plain {
			creds = insecure.NewCredentials()
		}
		conn, err := grpc.NewClient(s.Endpoint, grpc.WithTransportCredentials(creds))
		if err != nil {
			return nil, fmt.Errorf("export %s: %w", signal, err)
		}
		f.send, f.close = s.grpc(conn), func() { conn.Close() }
	}
	work, abort := context.WithCancel(context.WithoutCancel(ctx)) // Close ends it
	f.abort = abort
	f.done.Go(func() { f.run(work) })
	return f, nil
}

// put never blocks. A nil forwarder takes nothing.
func (f *forwarder) put(m proto.Message, count int) {
	if f == nil || count == 0 {
		return
	}
	select {
	case f.items <- forwarded{m, count}:
	default:
		f.metrics.add(dropped, float64(count), f.signal, "queue_full")
	}
}

func (f *forwarder) run(ctx context.Context) {
	for {
		select {
		case i := <-f.items:
			f.export(ctx, i)
		case <-f.stop:
			for {
				select {
				case i := <-f.items:
					f.export(ctx, i)
				default:
					return
				}
			}
		}
	}
}

func (f *forwarder) export(ctx context.Context, i forwarded) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if err := f.send(ctx, i.message); err != nil {
		f.metrics.add(dropped, float64(i.count), f.signal, "export_failed")
		f.failure(fmt.Errorf("export %s: %w", f.signal, err))
		return
	}
	f.metrics.add(exported, float64(i.count), f.signal)
}

// Close sends what waits, within the bound of ctx.
func (f *forwarder) Close(ctx context.Context) {
	if f == nil {
		return
	}
	f.closed.Do(func() {
		defer f.close()
		close(f.stop)
		defer context.AfterFunc(ctx, f.abort)()
		f.done.Wait()
		f.abort()
	})
}

// signalSettings are Config's fields with the environment filled in for one signal.
type signalSettings struct {
	Config
	service     string // full gRPC method, and a place for its answer
	answer      func() proto.Message
	plain       bool
	compression string
	timeout     time.Duration
}

// forwardSettings reads the variables of the OTLP exporter specification, those of
// the signal first.
func forwardSettings(c Config, signal string) (s signalSettings, enabled bool) {
	upper := strings.ToUpper(signal)
	variable := func(name string) string {
		return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_"+upper+"_"+name), os.Getenv("OTEL_EXPORTER_OTLP_"+name))
	}
	exporter := strings.TrimSpace(os.Getenv("OTEL_" + upper + "_EXPORTER"))
	disabled, _ := strconv.ParseBool(os.Getenv("OTEL_SDK_DISABLED"))
	s = signalSettings{Config: c, compression: variable("COMPRESSION"), timeout: 10 * time.Second,
		service: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
		answer:  func() proto.Message { return &collectorlogs.ExportLogsServiceResponse{} },
	}
	if signal == "metrics" {
		s.service = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
		s.answer = func() proto.Message { return &collectormetrics.ExportMetricsServiceResponse{} }
	}
	s.Protocol = cmp.Or(c.Protocol, variable("PROTOCOL"), protocolGRPC)
	s.CAFile, s.CertFile, s.KeyFile = cmp.Or(c.CAFile, variable("CERTIFICATE")), cmp.Or(c.CertFile, variable("CLIENT_CERTIFICATE")), cmp.Or(c.KeyFile, variable("CLIENT_KEY"))
	if ms, err := strconv.Atoi(variable("TIMEOUT")); err == nil && ms > 0 {
		s.timeout = time.Duration(ms) * time.Millisecond
	}
	if len(c.Headers) == 0 {
		s.Headers = parseHeaders(variable("HEADERS"))
	}
	own := os.Getenv("OTEL_EXPORTER_OTLP_" + upper + "_ENDPOINT")
	s.Endpoint = cmp.Or(c.Endpoint, own, os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if disabled || s.Endpoint == "" || exporter != "" && exporter != "otlp" {
		return s, false
	}
	scheme, rest, found := strings.Cut(s.Endpoint, "://")
	if !found {
		scheme, rest = "https", s.Endpoint
		if plain, _ := strconv.ParseBool(variable("INSECURE")); plain {
			scheme = "http"
		}
	}
	s.plain = scheme == "http"
	switch {
	case s.Protocol != protocolHTTP:
		s.Endpoint = strings.TrimSuffix(rest, "/")
	case c.Endpoint != "" || own == "": // the base of all signals
		s.Endpoint = scheme + "://" + strings.TrimSuffix(strings.TrimSuffix(rest, "/"), "/v1/traces") + "/v1/" + signal
	default:
		s.Endpoint = scheme + "://" + rest
	}
	return s, true
}

// parseHeaders reads key=value,key=value with percent-encoded values.
func parseHeaders(text string) map[string]string {
	headers := map[string]string{}
	for _, pair := range strings.Split(text, ",") {
		key, value, found := strings.Cut(pair, "=")
		if decoded, err := url.PathUnescape(strings.TrimSpace(value)); found && err == nil {
			headers[strings.TrimSpace(key)] = decoded
		}
	}
	return headers
}

// grpc sends by a unary call; the answer has nothing that anybody reads.
func (s signalSettings) grpc(conn *grpc.ClientConn) func(context.Context, proto.Message) error {
	var options []grpc.CallOption
	if s.compression == gzip.Name {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	return func(ctx context.Context, m proto.Message) error {
		return conn.Invoke(metadata.NewOutgoingContext(ctx, metadata.New(s.Headers)), s.service, m, s.answer(), options...)
	}
}

// maxErrorText bounds what is read of a collector's refusal, in bytes.
const maxErrorText = 512

// http sends by POST.
func (s signalSettings) http(client *http.Client) func(context.Context, proto.Message) error {
	return func(ctx context.Context, m proto.Message) error {
		body, err := proto.Marshal(m)
		if err != nil {
			return err
		}
		if s.compression == gzip.Name {
			var small bytes.Buffer
			zip := stdgzip.NewWriter(&small)
			zip.Write(body) // a buffer takes everything
			zip.Close()
			body = small.Bytes()
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Endpoint, bytes.NewReader(body))
		if err != nil {
			return err
		}
		for key, value := range s.Headers {
			request.Header.Set(key, value)
		}
		request.Header.Set("Content-Type", "application/x-protobuf")
		if s.compression == gzip.Name {
			request.Header.Set("Content-Encoding", "gzip")
		}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(io.LimitReader(answer.Body, maxErrorText))
		if answer.StatusCode/100 != 2 {
			return fmt.Errorf("collector answers %s: %s", answer.Status, bytes.TrimSpace(text))
		}
		return err
	}
}
