package wire

// Kind says what a message asks or answers.
type Kind uint8

// Requests. Each is answered by one Reply with the same ID.
const (
	// Create is the first message on SocketFD: Body is a Config. The reply's Body is
	// a launch.Reply. Lent with it, where FlagLend asks, are duplicates of the monitor's ends of the
	// container's stdin, stdout and stderr as the flags say, and of the exec pipe
	// until the start: with them the container outlives its monitor.
	Create Kind = iota + 1
	// Hello is the first message of every other connection. The reply's Body is an Info;
	// descriptors are lent as with Create's.
	Hello
	// Start lets the container's init execute the user's program.
	Start
	// Signal sends Signal to the init, with FlagAll to all processes of the container.
	Signal
	// Reopen opens the log file anew.
	Reopen
	// CloseStdin closes the container's standard input.
	CloseStdin
	// Resize sets the size of the container's terminal.
	Resize
	// Exec starts a process in the container. Attached are the launch request (a
	// descriptor the launcher can open by path) and, as the flags say, the ends of
	// stdin, stdout and stderr that the process gets. The reply's Body is a
	// launch.Reply; with FlagTerminal the pty's master is attached to it. The
	// message's ID is the session. With FlagEnter the request is a plan of package
	// launch/enter, and the last descriptor is the program that does it. Any error
	// of such a session means that nothing was started; an older monitor always has one.
	Exec
	// Attach joins a client to the container's streams. Attached are, as the flags
	// say, the read end of its stdin and the write ends of its stdout and stderr.
	// The message's ID is the session.
	Attach
	// KillSession kills the process of an exec session and its descendants. The reply
	// comes when they have ended, or after two seconds.
	KillSession
	// CloseSession ends an attach session, or forgets an exec session.
	CloseSession
	// Stats asks for Counters.
	Stats
	// Shutdown ends the monitor after its container has ended; with FlagForce it kills
	// the container first. The reply comes when nothing is left.
	Shutdown
	// Upgrade puts the program at the path Body in the monitor's place: same process,
	// same children, same descriptors. The reply comes from the new program; its Body
	// is an Info. On an error the old one goes on.
	Upgrade

	// What follows is for a trustee, which stands for no container but holds what
	// containers need of descriptors when both their monitors and the daemon are dead.

	// Entrust gives it a container's: Body is the container's ID, attached are a pidfd of
	// the init and the monitor's ends of stdin, stdout and stderr, as the flags say. They
	// take the place of what it had of that container.
	Entrust
	// Revoke has it close what the flags say of the container whose ID is Body; without
	// flags, everything.
	Revoke
	// Recall asks for duplicates, which are attached to the reply as with Entrust. Without
	// an ID there is no reply, only the next Sweep spares the container.
	Recall
	// Sweep has it close what neither was entrusted nor recalled on this connection.
	Sweep

	// Spare is the first message on SocketFD of a monitor that is begun before its container:
	// Body is a Config with the launcher, its PATH and, as Request, an argument that keeps the
	// place of the request's path. There is no reply: a monitor that cannot do it ends. The
	// Create follows when there is a container whose directory is as long as the monitor's argument.
	Spare
)

// Answers and events.
const (
	// Reply answers the request of the same ID; an error is a launch.Reply in Body
	// and FlagError set.
	Reply Kind = iota + 64
	// Exited is sent to every connection when the exit record is on disk; Body is the record.
	Exited
	// SessionEnded: Session's process has ended (Status is the raw wait status), or
	// the client was disconnected (Body is the reason).
	SessionEnded
	// StdinClosed: the container's standard input was closed; whoever was lent its
	// descriptor closes it too.
	StdinClosed
	// Listener goes to whoever asked for FlagLend: attached is a duplicate of the seccomp
	// listener numbered Session, which a new monitor needs to answer the container's
	// system calls. ListenerEnded: nobody can ask by it any more.
	Listener
	ListenerEnded
	// Notified: the file of that name has grown.
	Notified
	// Stalled: the log's file system has stopped answering, or answers again; the
	// Counters say which.
	Stalled
)

// Flags of a message.
const (
	FlagAll = 1 << iota
	FlagStdin
	FlagStdout
	FlagStderr
	FlagTerminal
	FlagForce
	FlagError
	// FlagLend in Create and Hello asks for duplicates of the container's streams. A
	// daemon that would not close them must not get them.
	FlagLend
	// FlagPidfd: a pidfd of the init is attached.
	FlagPidfd
	// FlagEnter: an Exec that needs no launcher.
	FlagEnter
)

// Message is one packet. Which fields count depends on Kind.
type Message struct {
	Kind Kind
	// ID joins a reply to its request; zero for events. The caller draws it, unique
	// on its connection.
	ID            uint32
	Flags         uint32
	Session       uint32
	Signal        uint32
	Status        uint32
	Width, Height uint16
	// Traceparent is the W3C trace context of the request.
	Traceparent string
	// Body aliases the packet after Parse.
	Body []byte
}

// Append encodes m behind buf:
//
//	version (1 byte)  kind (1 byte)  fields
func (m *Message) Append(buf []byte) []byte {
	buf = append(buf, Version, byte(m.Kind))
	buf = AppendUint(buf, 1, uint64(m.ID))
	buf = AppendUint(buf, 2, uint64(m.Flags))
	buf = AppendUint(buf, 3, uint64(m.Session))
	buf = AppendUint(buf, 4, uint64(m.Signal))
	buf = AppendUint(buf, 5, uint64(m.Status))
	buf = AppendUint(buf, 6, uint64(m.Width))
	buf = AppendUint(buf, 7, uint64(m.Height))
	buf = AppendString(buf, 8, m.Traceparent)
	return AppendBytes(buf, 9, m.Body)
}

// Parse is the inverse of Append. m.Body aliases packet.
func (m *Message) Parse(packet []byte) error {
	if len(packet) < 2 || len(packet) > MaxPacket {
		return ErrMalformed
	}
	if packet[0] < MinVersion || packet[0] > Version {
		return ErrVersion
	}
	*m = Message{Kind: Kind(packet[1])}
	for rest := packet[2:]; len(rest) > 0; {
		var f Field
		var err error
		if f, rest, err = Next(rest); err != nil {
			return err
		}
		switch f.Num {
		case 1:
			m.ID = uint32(f.Uint)
		case 2:
			m.Flags = uint32(f.Uint)
		case 3:
			m.Session = uint32(f.Uint)
		case 4:
			m.Signal = uint32(f.Uint)
		case 5:
			m.Status = uint32(f.Uint)
		case 6:
			m.Width = uint16(f.Uint)
		case 7:
			m.Height = uint16(f.Uint)
		case 8:
			m.Traceparent = string(f.Bytes)
		case 9:
			m.Body = f.Bytes
		}
	}
	return nil
}
