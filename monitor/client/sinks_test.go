package client_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	collectlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"
)

// lines is a daemon's receiver of log records.
type lines struct {
	mu        sync.Mutex // guards what follows
	records   []*logs.LogRecord
	resources []string
	wrong     []string
}

func collectLines(t *testing.T, path string) (*lines, *http.Server) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := &lines{}
	server := &http.Server{Handler: c}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return c, server
}

func (c *lines) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.URL.Path == "/v1/traces" {
		return
	}
	var body collectlogs.ExportLogsServiceRequest
	if err == nil {
		err = proto.Unmarshal(raw, &body)
	}
	if err != nil || r.URL.Path != "/v1/logs" {
		c.wrong = append(c.wrong, fmt.Sprint(r.URL.Path, err))
	}
	for _, rl := range body.ResourceLogs {
		for _, a := range rl.Resource.Attributes {
			c.resources = append(c.resources, a.Key+"="+a.Value.GetStringValue())
		}
		for _, sl := range rl.ScopeLogs {
			c.records = append(c.records, sl.LogRecords...)
		}
	}
}

func (c *lines) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.records)
}

// text joins what came of one stream; pieces of a line have an attribute.
func (c *lines) text(stream string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var text strings.Builder
	for _, r := range c.records {
		attributes := map[string]string{}
		for _, a := range r.Attributes {
			attributes[a.Key] = a.Value.GetStringValue()
		}
		if attributes["log.iostream"] == stream {
			text.WriteString(r.Body.GetStringValue())
			if attributes["vitrine.log.partial"] == "" {
				text.WriteByte('\n')
			}
		}
	}
	return text.String()
}

func TestLinesGoToTheDaemonInTheTraceOfTheirContainer(t *testing.T) {
	b := newBox(t, "sh", "-c", "printf 'one '; sleep 0.5; echo two; echo wrong >&2; head -c 70000 /dev/zero | tr '\\0' x; echo; printf 'no end'").traced()
	b.spawn.LogOTLP = true
	got, _ := collectLines(t, b.spawn.TelemetrySocket)
	b.start()
	b.exit()
	b.eventually("all lines", func() bool { return got.count() == 6 })
	if out := got.text("stdout"); out != "one two\n"+strings.Repeat("x", 70000)+"\nno end\n" || got.text("stderr") != "wrong\n" {
		t.Errorf("got %.200q and %q", out, got.text("stderr"))
	}
	for _, r := range got.records {
		if hex.EncodeToString(r.TraceId) != traceID || len(r.SpanId) != 8 || r.TimeUnixNano == 0 {
			t.Errorf("record %v", r)
		}
	}
	if !strings.Contains(strings.Join(got.resources, " "), "container.id=abc") || len(got.wrong) > 0 {
		t.Errorf("resources %v, wrong %v", got.resources, got.wrong)
	}
	stats, err := b.m.Stats(b.ctx)
	b.must(err)
	if stats.OTLPRecords != 6 || stats.OTLPDropped != 0 {
		t.Errorf("counters %+v", stats)
	}
}

func TestSinksThatDoNotKeepUpLoseLinesTheFileHasAndTheCountIsRight(t *testing.T) {
	const n = 200000
	for _, peer := range []string{"none", "slow"} {
		b := newBox(t, "sh", "-c", fmt.Sprintf("seq %d; exec sleep 1000", n))
		b.spawn.TelemetrySocket, b.spawn.JournalSocket = b.dir+"/otlp.sock", b.dir+"/journal.sock"
		b.spawn.LogOTLP, b.spawn.LogJournal = true, true
		if peer == "slow" { // both take connections and read nothing
			l, err := net.Listen("unix", b.spawn.TelemetrySocket)
			b.must(err)
			defer l.Close()
			j, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: b.spawn.JournalSocket, Net: "unixgram"})
			b.must(err)
			defer j.Close()
		}
		b.start()
		b.eventually("the whole log", func() bool { s, _ := b.m.Stats(b.ctx); return s.LogLines == n })
		s, err := b.m.Stats(b.ctx)
		b.must(err)
		if s.JournalRecords+s.JournalDropped != n || s.JournalDropped == 0 || s.OTLPDropped == 0 || s.OTLPRecords != 0 || s.LogDropped != 0 {
			t.Errorf("%s: counters %+v", peer, s)
		}
		if peer == "slow" {
			continue // what is on its way is counted when it fails
		}
		b.eventually("the rest to be counted", func() bool { s, _ = b.m.Stats(b.ctx); return s.OTLPDropped == n })
	}
}

func TestLinesGoToTheJournalInItsOwnProtocol(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo 'a=b'; printf 'two\\0\\377\\n' >&2; head -c 40000 /dev/zero | tr '\\0' x; echo; exec sleep 1000")
	b.spawn.Attributes = map[string]string{"container.id": "abc", "k8s.pod.name": "web\nMESSAGE=forged", "other": "x"}
	b.spawn.JournalSocket, b.spawn.LogJournal = b.dir+"/journal.sock", true
	peer, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: b.spawn.JournalSocket, Net: "unixgram"})
	b.must(err)
	defer peer.Close()
	deadline, _ := b.ctx.Deadline()
	peer.SetReadDeadline(deadline)
	b.start()
	var messages = map[string]string{}
	var pieces int
	for len(messages["stdout"]) < 40005 || len(messages["stderr"]) < 6 {
		buf := make([]byte, 1<<17)
		n, err := peer.Read(buf)
		if err != nil {
			t.Fatalf("%v; so far %.200q", err, messages)
		}
		entry := map[string]string{}
		for _, field := range bytes.Split(bytes.TrimSuffix(buf[:n], []byte("\n")), []byte("\n")) {
			key, value, ok := strings.Cut(string(field), "=")
			if _, twice := entry[key]; !ok || twice {
				t.Fatalf("entry %.300q", buf[:n])
			}
			entry[key] = value
		}
		if entry["CONTAINER_ID_FULL"] != "abc" || entry["K8S_POD_NAME"] != "web" || entry["SYSLOG_IDENTIFIER"] != "vitrine" ||
			entry["PRIORITY"] != map[string]string{"stdout": "6", "stderr": "3"}[entry["CONTAINER_STREAM"]] {
			t.Errorf("entry %.300q", buf[:n])
		}
		end := "\n"
		if entry["CONTAINER_PARTIAL_MESSAGE"] == "true" {
			pieces++
			end = ""
		}
		messages[entry["CONTAINER_STREAM"]] += entry["MESSAGE"] + end
	}
	if messages["stdout"] != "a=b\n"+strings.Repeat("x", 40000)+"\n" || messages["stderr"] != "two\x00?\n" || pieces != 1 {
		t.Errorf("%d pieces, stderr %q, stdout %.100q of %d bytes", pieces, messages["stderr"], messages["stdout"], len(messages["stdout"]))
	}
}

func TestLinesOnTheirWaySurviveAnUpgrade(t *testing.T) {
	b := newBox(t, "sh", "-c", "printf 'begun '; read x; echo ended; exec sleep 1000").traced()
	b.spawn.LogOTLP, b.spawn.Stdin = true, true
	got, _ := collectLines(t, b.spawn.TelemetrySocket)
	b.start()
	b.eventually("the beginning", func() bool { s, _ := b.m.Stats(b.ctx); return s.LogBytesIn == 6 })
	b.must(b.m.Upgrade(b.ctx, monitorPath))
	b.must(b.m.CloseStdin(b.ctx))
	b.eventually("the line", func() bool { return got.text("stdout") == "begun ended\n" })
	if _, err := os.Stat(b.spawn.LogPath); err != nil {
		t.Error(err)
	}
}
