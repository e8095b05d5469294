package wire

import "unsafe"

// Config is what a monitor is born with.
type Config struct {
	ID string
	// Dir is the container's directory, absolute.
	Dir string
	// Launcher is the path of vitrine-launch.
	Launcher string
	// Request is the path of the launch request that creates the container.
	Request string
	// ExecFifo is opened to start the container; when empty the launcher runs StartRequest.
	ExecFifo      string
	StartRequest  string
	DeleteRequest string
	// LogPath is the CRI log file; empty discards output.
	LogPath string
	// LogMaxLine is the bytes of a line after which a partial record is written; 0 is 16384.
	LogMaxLine                 int
	Terminal, Stdin, StdinOnce bool
	Traceparent                string
	// TelemetrySocket takes OTLP over HTTP; empty for none.
	TelemetrySocket string
	// Attributes go on every span.
	Attributes []Attribute
	// OOMScoreAdj is the monitor's own.
	OOMScoreAdj int
	// Requested is when the daemon was asked, in nanoseconds since 1970: the start
	// of the span monitor.create.
	Requested int64
	// AttachStall is how long an attached client may read nothing while output waits
	// for it, in milliseconds, before it is disconnected; 0 is 10,000.
	AttachStall int
	// Path is the PATH of the launcher's environment.
	Path string
	// LogTrusted is how many bytes of LogPath may lead through symbolic links; the
	// rest, below that directory, may not. 0: only the file itself may be none.
	LogTrusted int
	// LogLimit is each stream's.
	LogLimit LogLimit
	// LogOTLP sends the container's lines to TelemetrySocket too, LogJournal to the journal's socket.
	LogOTLP, LogJournal bool
	// JournalSocket is the journal's; empty is the host's.
	JournalSocket string
	// WatchRequest is the path of the launch request (OpWatch) that puts a new keeper in
	// the place of the container's; empty when the container's init is its own process.
	WatchRequest string
	// Notify is what happens to system calls that the container's seccomp filter leaves to
	// user space: NotifyNone means that there is no such filter.
	Notify uint8
	// LogStall is how long a call to the log's file system may take, in milliseconds, before
	// the monitor looks again; still under way then, it goes on without it. 0 is 1000.
	LogStall int
}

// What a monitor does with a system call that it is asked about. It is refused with
// EPERM in either case; those of a runtime's init are no more than that.
const (
	NotifyNone uint8 = iota
	// NotifyLog counts it.
	NotifyLog
	// NotifyKill counts it and kills the container.
	NotifyKill
)

// Attribute is one string attribute of a span.
type Attribute struct{ Key, Value string }

// Append encodes c behind buf.
func (c *Config) Append(buf []byte) []byte {
	for i, s := range [...]string{c.ID, c.Dir, c.Launcher, c.Request, c.ExecFifo, c.StartRequest, c.DeleteRequest,
		c.LogPath, c.Traceparent, c.TelemetrySocket, c.Path} {
		buf = AppendString(buf, 1+i, s)
	}
	buf = AppendUint(buf, 20, uint64(c.LogMaxLine))
	buf = AppendBool(buf, 21, c.Terminal)
	buf = AppendBool(buf, 22, c.Stdin)
	buf = AppendBool(buf, 23, c.StdinOnce)
	buf = AppendUint(buf, 24, uint64(c.OOMScoreAdj+1000))
	buf = AppendUint(buf, 25, uint64(c.Requested))
	buf = AppendUint(buf, 26, uint64(c.AttachStall))
	for _, a := range c.Attributes {
		var pair int
		buf, pair = Open(buf, 27)
		buf = AppendString(AppendString(buf, 1, a.Key), 2, a.Value)
		Shut(buf, pair)
	}
	if c.LogLimit != (LogLimit{}) {
		var limit int
		buf, limit = Open(buf, 40)
		buf = c.LogLimit.append(buf)
		Shut(buf, limit)
	}
	buf = AppendUint(buf, 41, uint64(c.LogTrusted))
	buf = AppendBool(buf, 42, c.LogOTLP)
	buf = AppendBool(buf, 43, c.LogJournal)
	buf = AppendString(buf, 44, c.JournalSocket)
	buf = AppendString(buf, 45, c.WatchRequest)
	buf = AppendUint(buf, 46, uint64(c.Notify))
	return AppendUint(buf, 47, uint64(c.LogStall))
}

// Parse is the inverse of Append; it keeps nothing of buf. All texts stand in one copy
// of it: many small objects would cost a monitor more.
func (c *Config) Parse(buf []byte) error {
	*c = Config{OOMScoreAdj: -1000}
	buf = append([]byte(nil), buf...)
	text := func(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) } // the copy never changes
	texts := [...]*string{&c.ID, &c.Dir, &c.Launcher, &c.Request, &c.ExecFifo, &c.StartRequest, &c.DeleteRequest,
		&c.LogPath, &c.Traceparent, &c.TelemetrySocket, &c.Path}
	for len(buf) > 0 {
		var f Field
		var err error
		if f, buf, err = Next(buf); err != nil {
			return err
		}
		switch {
		case f.Num <= len(texts):
			*texts[f.Num-1] = text(f.Bytes)
		case f.Num == 20:
			c.LogMaxLine = int(f.Uint & (1<<31 - 1))
		case f.Num == 21:
			c.Terminal = f.Uint != 0
		case f.Num == 22:
			c.Stdin = f.Uint != 0
		case f.Num == 23:
			c.StdinOnce = f.Uint != 0
		case f.Num == 24:
			c.OOMScoreAdj = int(min(f.Uint, 2000)) - 1000
		case f.Num == 25:
			c.Requested = int64(f.Uint)
		case f.Num == 26:
			c.AttachStall = int(f.Uint & (1<<31 - 1))
		case f.Num == 27:
			var a Attribute
			for sub := f.Bytes; len(sub) > 0; {
				var g Field
				if g, sub, err = Next(sub); err != nil {
					return err
				}
				switch g.Num {
				case 1:
					a.Key = text(g.Bytes)
				case 2:
					a.Value = text(g.Bytes)
				}
			}
			c.Attributes = append(c.Attributes, a)
		case f.Num == 40:
			if err := c.LogLimit.parse(f.Bytes); err != nil {
				return err
			}
		case f.Num == 41:
			c.LogTrusted = int(f.Uint & (1<<31 - 1))
		case f.Num == 42:
			c.LogOTLP = f.Uint != 0
		case f.Num == 43:
			c.LogJournal = f.Uint != 0
		case f.Num == 44:
			c.JournalSocket = text(f.Bytes)
		case f.Num == 45:
			c.WatchRequest = text(f.Bytes)
		case f.Num == 46:
			if c.Notify = NotifyLog; f.Uint <= uint64(NotifyKill) { // what a newer daemon means is no reason to kill
				c.Notify = uint8(f.Uint)
			}
		case f.Num == 47:
			c.LogStall = int(f.Uint & (1<<31 - 1))
		}
	}
	return nil
}
