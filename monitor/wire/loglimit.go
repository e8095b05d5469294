package wire

// LogLimit bounds what one stream of the container writes to its log; its zero value
// does not. The fields are those of logfile.Limit.
type LogLimit struct {
	// Policy is 0 for none, LimitDrop, LimitBackpressure or LimitSample.
	Policy uint8
	// Rate and Burst are in bytes per second and bytes.
	Rate, Burst uint64
	// Sample: of so many lines beyond the rate one is kept.
	Sample uint64
	// Pause bounds one pause of Backpressure, in milliseconds.
	Pause uint64
}

// Policies of a LogLimit.
const (
	LimitDrop = iota + 1
	LimitBackpressure
	LimitSample
)

func (l *LogLimit) append(buf []byte) []byte {
	buf = AppendUint(buf, 1, uint64(l.Policy))
	for i, v := range [...]uint64{l.Rate, l.Burst, l.Sample, l.Pause} {
		buf = AppendUint(buf, 2+i, v)
	}
	return buf
}

func (l *LogLimit) parse(buf []byte) error {
	*l = LogLimit{}
	numbers := [...]*uint64{&l.Rate, &l.Burst, &l.Sample, &l.Pause}
	for len(buf) > 0 {
		var f Field
		var err error
		if f, buf, err = Next(buf); err != nil {
			return err
		}
		switch {
		case f.Num == 1:
			l.Policy = uint8(min(f.Uint, 255))
		case f.Num-2 < len(numbers):
			*numbers[f.Num-2] = f.Uint
		}
	}
	return nil
}
