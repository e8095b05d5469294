package spec

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/vitrine-runtime/vitrine/pod"
)

// LogOptions is what happens to a container's output: the administrator's defaults,
// and by annotation a pod's own.
type LogOptions struct {
	// Policy is what happens to output of a stream beyond Rate: "drop" leaves lines
	// out, "sample" leaves all but one in Sample out, "backpressure" makes the
	// container wait; "none" or empty means no limit.
	Policy string `toml:"policy"`
	// Rate bounds each stream in bytes per second; 0 means no limit.
	Rate int64 `toml:"rate"`
	// Burst is how many bytes may come at once after silence; 0 means Rate.
	Burst int64 `toml:"burst"`
	// Sample: of so many lines beyond the rate one is kept; 0 means 100.
	Sample int64 `toml:"sample"`
	// PauseMilliseconds bounds one pause of backpressure, whatever the rate; 0 means 1000.
	PauseMilliseconds int64 `toml:"pause_ms"`
	// OTLP sends lines to the telemetry collector too, beside the file.
	OTLP bool `toml:"otlp"`
	// Journald sends lines to the host's journal too.
	Journald bool `toml:"journald"`
	// StallMilliseconds is how long the log's file system may take for one call: the
	// container's log is given up, until the call returns, after once to twice that time.
	// At least 100; 0 means 1000.
	StallMilliseconds int64 `toml:"stall_ms"`
}

// logAnnotation is the prefix of annotations about a container's log. Behind the key, a
// slash and a container's name address that container of the pod alone:
//
//	io.vitrine.log.policy: drop
//	io.vitrine.log.rate: 1Mi
//	io.vitrine.log.rate/chatty: 64Ki
const logAnnotation = "io.vitrine.log."

// Log lays the annotations that allowed names (see Defaults.Annotations) over the
// defaults. A value that cannot be is ErrInvalid, naming the annotation.
func Log(o LogOptions, allowed []string, container string, sources ...map[string]string) (LogOptions, error) {
	if err := logSettings.lay(&o, logAnnotation, allowed, container, sources); err != nil {
		return o, err
	}
	return o, o.Check()
}

// Check refuses what no monitor could do.
func (o LogOptions) Check() error {
	switch o.Policy {
	case "", "none", "drop", "sample", "backpressure":
	default:
		return fmt.Errorf("%w: log policy %q is none of none, drop, sample and backpressure", pod.ErrInvalid, o.Policy)
	}
	if o.Limited() && o.Rate == 0 {
		return fmt.Errorf("%w: log policy %s needs a rate", pod.ErrInvalid, o.Policy)
	}
	if min(o.Rate, o.Burst, o.Sample, o.PauseMilliseconds) < 0 || o.PauseMilliseconds > maxLogPause {
		return fmt.Errorf("%w: log rate, burst, sample or pause is below 0, or the pause above %d ms", pod.ErrInvalid, maxLogPause)
	}
	if o.StallMilliseconds != 0 && (o.StallMilliseconds < minLogStall || o.StallMilliseconds > maxLogPause) {
		return fmt.Errorf("%w: log stall time of %d ms is not 0 or %d to %d", pod.ErrInvalid, o.StallMilliseconds, minLogStall, maxLogPause)
	}
	return nil
}

// minLogStall keeps an ordinary slow write from counting as a stall, in milliseconds.
const minLogStall = 100

// maxLogPause bounds how long backpressure may hold a container's write, in milliseconds.
const maxLogPause = 60000

// Limited reports whether the options bound anything.
func (o LogOptions) Limited() bool { return o.Policy != "" && o.Policy != "none" }

var logSettings = settings[LogOptions]{
	"policy":   func(o *LogOptions, v string) error { o.Policy = v; return nil },
	"rate":     func(o *LogOptions, v string) (err error) { o.Rate, err = quantity(v); return err },
	"burst":    func(o *LogOptions, v string) (err error) { o.Burst, err = quantity(v); return err },
	"sample":   func(o *LogOptions, v string) (err error) { o.Sample, err = quantity(v); return err },
	"pause-ms": func(o *LogOptions, v string) (err error) { o.PauseMilliseconds, err = quantity(v); return err },
	"stall-ms": func(o *LogOptions, v string) (err error) { o.StallMilliseconds, err = quantity(v); return err },
	"otlp":     func(o *LogOptions, v string) (err error) { o.OTLP, err = strconv.ParseBool(v); return err },
	"journald": func(o *LogOptions, v string) (err error) { o.Journald, err = strconv.ParseBool(v); return err },
}

// quantity reads a whole number with the suffixes that Kubernetes has for bytes.
func quantity(text string) (int64, error) {
	factor := int64(1)
	for i, suffix := range []string{"Ki", "Mi", "Gi", "k", "M", "G"} {
		if number, found := strings.CutSuffix(text, suffix); found {
			text, factor = number, []int64{1 << 10, 1 << 20, 1 << 30, 1e3, 1e6, 1e9}[i]
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("%q is no number of bytes such as 65536, 64Ki or 1M", text)
	}
	return n * factor, nil
}
