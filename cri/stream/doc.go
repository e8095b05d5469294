// Package stream carries the bytes of Exec, Attach and PortForward: an HTTP server
// that a one-time URL opens and that speaks what kubelets and crictl speak, SPDY/3.1
// and WebSocket.
//
//	gRPC Exec ──► token ──► URL ──► client upgrades ──► session ──► Runtime.Exec
//
// The transports are k8s.io/streaming's SPDY and golang.org/x/net/websocket; the
// names on the wire are those of k8s.io/cri-streaming. Its server is not used,
// because it leaves goroutines behind when a client opens a stream too many or
// none at all, does not notice that a client has gone, and knows neither version 5
// of the WebSocket protocol nor the port-forward tunnel.
//
// Rules:
//   - A session has one owner, the HTTP handler. When it returns, the connection is
//     closed and every goroutine of the session has ended.
//   - The context of a session ends when its client goes away, when the connection
//     was idle for too long, or when the server is closed. A command whose client
//     is gone is ended with it: nobody could read its output or end it later.
//   - A token opens one session, once, within a minute.
package stream
