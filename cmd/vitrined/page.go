package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/telemetry/page"
	"github.com/vitrine-runtime/vitrine/telemetry/why"
)

// servePage opens page_listen. The page needs no password, so it is for this machine
// only: an address that others can reach is refused.
func (d *daemon) servePage(address string) error {
	if !strings.HasPrefix(address, "unix:") {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("page_listen: %w", err)
		}
		if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
			return fmt.Errorf("page_listen: %w: %q is not a loopback address such as 127.0.0.1", pod.ErrInvalid, host)
		}
	}
	listener, err := listenAny(address)
	if err != nil {
		return fmt.Errorf("page_listen: %w", err)
	}
	d.stops.add(serveHTTP(listener, d.pageHandler()))
	return nil
}

func (d *daemon) pageHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", d.nodePage)
	mux.HandleFunc("GET /pod", d.podPage)
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Write(page.Style)
	})
	return guarded(mux)
}

// guarded refuses requests that a foreign page's name was made to lead here (DNS
// rebinding), and says what pages may do.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); host != "localhost" && (err != nil || !ip.IsLoopback()) {
			http.Error(w, "this page answers to localhost only", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", page.Policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func (d *daemon) nodePage(w http.ResponseWriter, r *http.Request) {
	n := page.Node{Now: time.Now(), Status: d.status(r), Kills: d.kills(""), Denials: d.ledgers(r.Context(), "")}
	for _, p := range d.images.Pulls() {
		n.Pulls = append(n.Pulls, api.Pull{Ref: p.Ref, Since: p.Since, Phase: p.Phase, Waiters: p.Waiters, Bytes: p.Bytes, Total: p.Total})
	}
	for _, sb := range d.pods.Sandboxes() {
		m := sb.Config.GetMetadata()
		shown := page.Pod{Name: m.GetNamespace() + "/" + m.GetName(), State: sb.State.String(), Created: sb.CreatedAt, IPs: sb.Network.IPs}
		for _, c := range slices.Backward(d.pods.ContainersOf(sb.ID)) {
			line := page.Container{Name: c.Config.GetMetadata().GetName(), State: c.State.String()}
			if x := c.Exit; x != nil {
				line.Note = strings.TrimSuffix(fmt.Sprintf("%d %s: %s", x.Code, x.Reason, x.Message), ": ")
			}
			shown.Containers = append(shown.Containers, line)
		}
		n.Pods = append(n.Pods, shown)
	}
	var b bytes.Buffer
	send(w, &b, page.WriteNode(&b, n))
}

func (d *daemon) podPage(w http.ResponseWriter, r *http.Request) {
	evidence, err := d.telemetry.Evidence(r.Context(), r.FormValue("subject"), d.node())
	switch {
	case errors.Is(err, pod.ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case errors.Is(err, pod.ErrInvalid):
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	shown := page.Subject{Now: time.Now(), Verdict: why.Judge(evidence), Traces: evidence.Traces, Lives: telemetry.LivesOf(evidence, "")}
	if evidence.Name != "" {
		shown.Denials = slices.DeleteFunc(d.ledgers(r.Context(), evidence.Pod), func(c api.Denials) bool { return len(c.Denials) == 0 })
	}
	var b bytes.Buffer
	send(w, &b, page.WriteSubject(&b, shown))
}

// send answers with a whole page or with an error, never with half of one.
func send(w http.ResponseWriter, b *bytes.Buffer, err error) {
	if err != nil {
		slog.Error("draw a page", "error", err)
		http.Error(w, "the page cannot be drawn", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if _, err := w.Write(b.Bytes()); err != nil {
		slog.Debug("answer a page", "error", err)
	}
}
