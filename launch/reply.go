package launch

import (
	"errors"
	"strconv"
	"strings"
)

// Reply is what the launcher answers on ReplyFD before it exits. A reply without a
// PID and without an Error means that the launcher died; its caller says so.
type Reply struct {
	// PID is the process that was started, in the caller's pid namespace; 0 for
	// OpDelete, and for OpStart except of a restored container: its init executes
	// nothing by which its caller could see that it was let go.
	PID int
	// Steps are what the launcher did and when, in order of their start.
	Steps []Step
	// Error is why the operation failed; nothing is left behind then.
	Error *Error
	// Features is a Features as JSON without line breaks, for OpFeatures.
	Features Document
	// Way is who made the container, for OpCreate: WayEnter, or libcontainer for the reason
	// that this names in a line. Empty says nothing.
	Way string
}

// WayEnter is the Way of a container that vitrine-enter has made.
const WayEnter = "enter"

// Step is one timed part of the work. It becomes a span.
type Step struct {
	// Name is room.verb, for example "libct.rootfs". No blanks.
	Name string
	// Start and End are CLOCK_REALTIME in nanoseconds since 1970.
	Start, End int64
}

// Error is a failed operation.
type Error struct {
	// Step names the part that failed, as in Step.Name.
	Step string
	// Kind chooses the caller's sentinel error.
	Kind Kind
	// Message is one readable line naming the cause.
	Message string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Kind is the class of an Error.
type Kind string

// The kinds.
const (
	// KindInternal is everything not named below.
	KindInternal Kind = "internal"
	// KindInvalid: the specification asks for something that cannot be.
	KindInvalid Kind = "invalid"
	// KindNotFound: the command does not exist in the container (exit code 127).
	KindNotFound Kind = "not-found"
	// KindNotExecutable: the command exists and cannot be executed (exit code 126).
	KindNotExecutable Kind = "not-executable"
	// KindGone: the container is not running.
	KindGone Kind = "gone"
)

// Append encodes the reply behind buf, one line per fact:
//
//	pid N
//	step NAME START END
//	features JSON
//	way WAY
//	error KIND STEP MESSAGE
//	end
//
// Line breaks in a message become blanks. "end" is last: a reply without it was cut off.
func (r Reply) Append(buf []byte) []byte {
	if r.PID != 0 {
		buf = append(buf, "pid "...)
		buf = strconv.AppendInt(buf, int64(r.PID), 10)
		buf = append(buf, '\n')
	}
	for _, s := range r.Steps {
		buf = append(buf, "step "...)
		buf = append(buf, s.Name...)
		buf = append(buf, ' ')
		buf = strconv.AppendInt(buf, s.Start, 10)
		buf = append(buf, ' ')
		buf = strconv.AppendInt(buf, s.End, 10)
		buf = append(buf, '\n')
	}
	if len(r.Features) > 0 {
		buf = append(buf, "features "...)
		buf = append(buf, strings.ReplaceAll(string(r.Features), "\n", " ")...)
		buf = append(buf, '\n')
	}
	if r.Way != "" {
		buf = append(buf, "way "...)
		buf = append(buf, strings.ReplaceAll(r.Way, "\n", " ")...)
		buf = append(buf, '\n')
	}
	if r.Error != nil {
		buf = append(buf, "error "...)
		buf = append(buf, r.Error.Kind...)
		buf = append(buf, ' ')
		buf = append(buf, r.Error.Step...)
		buf = append(buf, ' ')
		buf = append(buf, strings.ReplaceAll(strings.TrimSpace(r.Error.Message), "\n", " ")...)
		buf = append(buf, '\n')
	}
	return append(buf, "end\n"...)
}

// maxSteps bounds what ParseReply keeps.
const maxSteps = 256

// commonSteps is room for those of most replies.
const commonSteps = 16

// ErrReply is returned for bytes that are no complete reply.
var ErrReply = errors.New("launcher's reply is cut off or malformed")

// ParseReply is the inverse of Append; anything else is ErrReply. It allocates only for what it
// returns.
func ParseReply(text string) (Reply, error) {
	var r Reply
	for text != "" {
		line, rest, whole := strings.Cut(text, "\n")
		if !whole {
			return r, ErrReply
		}
		text = rest
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "end":
			return r, nil
		case "pid":
			pid, err := strconv.Atoi(rest)
			if err != nil || pid <= 0 {
				return r, ErrReply
			}
			r.PID = pid
		case "step":
			name, times, _ := strings.Cut(rest, " ")
			from, to, _ := strings.Cut(times, " ")
			start, err1 := strconv.ParseInt(from, 10, 64)
			end, err2 := strconv.ParseInt(to, 10, 64)
			if err1 != nil || err2 != nil || len(r.Steps) == maxSteps {
				return r, ErrReply
			}
			if r.Steps == nil { // each size of object costs a monitor a page or two
				r.Steps = make([]Step, 0, commonSteps)
			}
			r.Steps = append(r.Steps, Step{Name: name, Start: start, End: end})
		case "features":
			r.Features = Document(rest)
		case "way":
			r.Way = rest
		case "error":
			kind, rest, _ := strings.Cut(rest, " ")
			step, message, _ := strings.Cut(rest, " ")
			r.Error = &Error{Kind: Kind(kind), Step: step, Message: message}
		default: // a newer launcher may say more
		}
	}
	return r, ErrReply
}
