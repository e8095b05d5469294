package spec

import (
	"math"
	"strconv"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// signalNumbers are Linux's on all architectures that this runtime is built for.
var signalNumbers = map[string]int{
	"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGIOT": 6, "SIGBUS": 7,
	"SIGFPE": 8, "SIGKILL": 9, "SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14,
	"SIGTERM": 15, "SIGSTKFLT": 16, "SIGCHLD": 17, "SIGCLD": 17, "SIGCONT": 18, "SIGSTOP": 19, "SIGTSTP": 20,
	"SIGTTIN": 21, "SIGTTOU": 22, "SIGURG": 23, "SIGXCPU": 24, "SIGXFSZ": 25, "SIGVTALRM": 26, "SIGPROF": 27,
	"SIGWINCH": 28, "SIGIO": 29, "SIGPOLL": 29, "SIGPWR": 30, "SIGSYS": 31,
}

// Real-time signals as the C library counts them: it keeps 32 and 33 to itself.
const sigRTMin, sigRTMax = 34, 64

// StopSignal is what StopContainer sends first: the request's, else the image's, else
// SIGTERM. The name is canonical, for example SIGRTMIN+3.
func StopSignal(c *runtime.ContainerConfig, image v1.Image) (name string, number int, err error) {
	if s := c.GetStopSignal(); s != runtime.Signal_SIGNAL_RUNTIME_DEFAULT {
		word, known := runtime.Signal_name[int32(s)]
		if !known {
			return "", 0, invalid("stop_signal: unknown value %d", s)
		}
		word = strings.TrimPrefix(word, "SIGNAL_")
		word = strings.Replace(strings.Replace(word, "PLUS", "+", 1), "MINUS", "-", 1)
		return ParseSignal(word)
	}
	if s := image.Config.StopSignal; s != "" {
		name, number, err := ParseSignal(s)
		if err != nil {
			return "", 0, invalid("image stop signal: %.40q is not a signal", s)
		}
		return name, number, nil
	}
	return ParseSignal("SIGTERM")
}

// ParseSignal accepts a name with or without SIG, SIGRTMIN+n, SIGRTMAX-n and a number.
func ParseSignal(s string) (name string, number int, err error) {
	word := strings.ToUpper(s)
	if n, ok := decimal(word, math.MaxInt32); ok {
		number = int(n)
	} else {
		word = "SIG" + strings.TrimPrefix(word, "SIG")
		if number, ok = signalNumbers[word]; !ok {
			number = realTimeSignal(word)
		}
	}
	if number < 1 || number > sigRTMax {
		return "", 0, invalid("signal: %.40q is not a signal", s)
	}
	return signalName(number), number, nil
}

// realTimeSignal returns 0 for what is none.
func realTimeSignal(word string) int {
	for _, base := range []struct {
		prefix string
		number int
		sign   string
	}{{"SIGRTMIN", sigRTMin, "+"}, {"SIGRTMAX", sigRTMax, "-"}} {
		rest, ok := strings.CutPrefix(word, base.prefix)
		if !ok {
			continue
		}
		if rest == "" {
			return base.number
		}
		offset, ok := decimal(strings.TrimPrefix(rest, base.sign), sigRTMax-sigRTMin)
		if !ok || !strings.HasPrefix(rest, base.sign) {
			return 0
		}
		if base.sign == "-" {
			return base.number - int(offset)
		}
		return base.number + int(offset)
	}
	return 0
}

func signalName(number int) string {
	if number >= sigRTMin {
		if number == sigRTMin {
			return "SIGRTMIN"
		}
		return "SIGRTMIN+" + strconv.Itoa(number-sigRTMin)
	}
	for name, n := range signalNumbers {
		if n == number && name != "SIGIOT" && name != "SIGCLD" && name != "SIGPOLL" {
			return name
		}
	}
	return strconv.Itoa(number)
}
