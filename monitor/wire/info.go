package wire

// Info is what a monitor says about itself when a daemon connects.
type Info struct {
	// Monitor and Init are process IDs.
	Monitor, Init int
	ID            string
	// Request is the path of the launch request that created the container.
	Request                    string
	Started, Exited            bool
	Terminal, Stdin, StdinOnce bool
	// Build names the program, and Upgrades is how often it was replaced in this process.
	Build    string
	Upgrades uint64
}

// Append encodes i behind buf.
func (i *Info) Append(buf []byte) []byte {
	buf = AppendUint(buf, 1, uint64(i.Monitor))
	buf = AppendUint(buf, 2, uint64(i.Init))
	buf = AppendString(buf, 3, i.ID)
	buf = AppendString(buf, 4, i.Request)
	for n, b := range [...]bool{i.Started, i.Exited, i.Terminal, i.Stdin, i.StdinOnce} {
		buf = AppendBool(buf, 5+n, b)
	}
	return AppendUint(AppendString(buf, 10, i.Build), 11, i.Upgrades)
}

// Parse is the inverse of Append.
func (i *Info) Parse(buf []byte) error {
	*i = Info{}
	flags := [...]*bool{&i.Started, &i.Exited, &i.Terminal, &i.Stdin, &i.StdinOnce}
	for len(buf) > 0 {
		var f Field
		var err error
		if f, buf, err = Next(buf); err != nil {
			return err
		}
		switch {
		case f.Num == 1:
			i.Monitor = int(f.Uint & (1<<31 - 1))
		case f.Num == 2:
			i.Init = int(f.Uint & (1<<31 - 1))
		case f.Num == 3:
			i.ID = string(f.Bytes)
		case f.Num == 4:
			i.Request = string(f.Bytes)
		case f.Num-5 < len(flags):
			*flags[f.Num-5] = f.Uint != 0
		case f.Num == 10:
			i.Build = string(f.Bytes)
		case f.Num == 11:
			i.Upgrades = f.Uint
		}
	}
	return nil
}

// Counters is what a monitor has counted since its start.
type Counters struct {
	// PID is the container's init.
	PID int
	// LogBytesIn is what was read from the container's streams; LogBytesOut what was
	// written to the log file, record headers included.
	LogBytesIn, LogBytesOut uint64
	// LogLines counts complete lines, LogPartials partial records.
	LogLines, LogPartials uint64
	// LogDropped counts bytes of the streams that could not be written, LogErrors the
	// failed writes; LogErrno is the last one's error number.
	LogDropped, LogErrors, LogErrno uint64
	// LogReopens counts rotations.
	LogReopens uint64
	// AttachClients and ExecSessions are those of this moment.
	AttachClients, ExecSessions uint64
	// AttachSkipped counts bytes not shown to clients that did not keep up,
	// AttachDropped the clients disconnected for it.
	AttachSkipped, AttachDropped uint64
	// Execs counts exec sessions since the start.
	Execs uint64
	// Reaped counts adopted processes that were waited for.
	Reaped uint64
	// SpansSent, SpansSpooled and SpansDropped count telemetry.
	SpansSent, SpansSpooled, SpansDropped uint64
	// LogLimited counts bytes, LogLimitedLines the lines, that the streams' limits left
	// out; LogPauses how often a stream was not read for its limit, LogPausedMillis for how long.
	LogLimited, LogLimitedLines, LogPauses, LogPausedMillis uint64
	// ExecFailed counts exec sessions whose program was not executed. ExecStartNanos is
	// the time from their requests to their execution, ExecCPUNanos the CPU time of the
	// sessions' processes and what they waited for, LaunchCPUNanos that of the launchers.
	ExecFailed, ExecStartNanos, ExecCPUNanos, LaunchCPUNanos uint64
	// Renewals counts how often the monitor has executed its own program anew.
	Renewals uint64
	// Records of the container's lines that went to the other sinks, and that did not.
	OTLPRecords, OTLPDropped, JournalRecords, JournalDropped uint64
	// LogStalls counts how often the log's file system did not answer and the monitor went
	// on without it, LogStalledMillis for how long, when that was over.
	LogStalls, LogStalledMillis uint64
	// LogStalledSince is when the one under way was noticed, in nanoseconds since 1970; 0 for none.
	LogStalledSince uint64
}

func (c *Counters) fields() [33]*uint64 {
	return [...]*uint64{&c.LogBytesIn, &c.LogBytesOut, &c.LogLines, &c.LogPartials, &c.LogDropped, &c.LogErrors, &c.LogErrno,
		&c.LogReopens, &c.AttachClients, &c.ExecSessions, &c.AttachSkipped, &c.AttachDropped, &c.Execs, &c.Reaped,
		&c.SpansSent, &c.SpansSpooled, &c.SpansDropped, &c.LogLimited, &c.LogLimitedLines, &c.LogPauses, &c.LogPausedMillis,
		&c.ExecFailed, &c.ExecStartNanos, &c.ExecCPUNanos, &c.LaunchCPUNanos, &c.OTLPRecords, &c.OTLPDropped, &c.JournalRecords, &c.JournalDropped, &c.Renewals,
		&c.LogStalls, &c.LogStalledMillis, &c.LogStalledSince}
}

// Append encodes c behind buf.
func (c *Counters) Append(buf []byte) []byte {
	buf = AppendUint(buf, 1, uint64(c.PID))
	for i, v := range c.fields() {
		buf = AppendUint(buf, 2+i, *v)
	}
	return buf
}

// Parse is the inverse of Append.
func (c *Counters) Parse(buf []byte) error {
	*c = Counters{}
	fields := c.fields()
	for len(buf) > 0 {
		var f Field
		var err error
		if f, buf, err = Next(buf); err != nil {
			return err
		}
		switch {
		case f.Num == 1:
			c.PID = int(f.Uint & (1<<31 - 1))
		case f.Num-2 < len(fields):
			*fields[f.Num-2] = f.Uint
		}
	}
	return nil
}
