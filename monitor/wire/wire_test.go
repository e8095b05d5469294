package wire

import (
	"bytes"
	"errors"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"
)

// filled sets every field of a struct to something that is not its zero value.
func filled[T any](t *testing.T) T {
	var v T
	fill(t, reflect.ValueOf(&v).Elem(), 1)
	return v
}

func fill(t *testing.T, v reflect.Value, n int) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString(strings.Repeat("x", n+i))
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int, reflect.Int64:
			f.SetInt(int64(n + i))
		case reflect.Uint64, reflect.Uint32, reflect.Uint16, reflect.Uint8:
			f.SetUint(uint64(n + i))
		case reflect.Slice:
			if f.Type().Elem().Kind() == reflect.Uint8 {
				f.SetBytes([]byte("body"))
				continue
			}
			f.Set(reflect.MakeSlice(f.Type(), 2, 2))
			fill(t, f.Index(0), 3)
			fill(t, f.Index(1), 7)
		case reflect.Struct:
			fill(t, f, n+i)
		default:
			t.Fatalf("field %s of kind %s", v.Type().Field(i).Name, f.Kind())
		}
	}
}

func TestEveryFieldSurvivesTheWire(t *testing.T) {
	m := filled[Message](t)
	var m2 Message
	if err := m2.Parse(m.Append(nil)); err != nil || !reflect.DeepEqual(m, m2) {
		t.Errorf("message %+v, %v", m2, err)
	}
	c := filled[Config](t)
	c.Notify = NotifyKill // one of three words
	var c2 Config
	if err := c2.Parse(c.Append(nil)); err != nil || !reflect.DeepEqual(c, c2) {
		t.Errorf("config %+v, %v", c2, err)
	}
	i := filled[Info](t)
	var i2 Info
	if err := i2.Parse(i.Append(nil)); err != nil || i != i2 {
		t.Errorf("info %+v, %v", i2, err)
	}
	n := filled[Counters](t)
	var n2 Counters
	if err := n2.Parse(n.Append(nil)); err != nil || n != n2 {
		t.Errorf("counters %+v, %v", n2, err)
	}
	e := filled[Exit](t)
	if e2, err := ParseExit(string(e.Append(nil))); err != nil || e != e2 {
		t.Errorf("exit %+v, %v", e2, err)
	}
	unknown := Config{Notify: NotifyKill + 1}
	if err := c2.Parse(unknown.Append(nil)); err != nil || c2.Notify != NotifyLog {
		t.Errorf("an unknown word about system calls became %d, %v", c2.Notify, err)
	}
	for _, adj := range []int{-1000, -999, 0, 1000} {
		c := Config{OOMScoreAdj: adj}
		if err := c2.Parse(c.Append(nil)); err != nil || c2.OOMScoreAdj != adj {
			t.Errorf("oom_score_adj %d became %d, %v", adj, c2.OOMScoreAdj, err)
		}
	}
}

func TestUnknownFieldsAreSkippedAndUnknownVersionsRefused(t *testing.T) {
	m := Message{Kind: Start, ID: 3}
	packet := AppendFixed64(AppendString(m.Append(nil), 900, "from the future"), 901, 1)
	packet = append(appendKey(packet, 902, typeFixed32), 2, 0, 0, 0)
	var got Message
	if err := got.Parse(packet); err != nil || got.ID != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	packet[0] = Version + 1
	if err := got.Parse(packet); !errors.Is(err, ErrVersion) {
		t.Errorf("got %v", err)
	}
	if err := got.Parse(make([]byte, MaxPacket+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

func TestStatusIsReadAsWaitDoes(t *testing.T) {
	for status, want := range map[uint32]struct {
		code   int32
		signal int
		core   bool
	}{0: {0, 0, false}, 7 << 8: {7, 0, false}, 255 << 8: {255, 0, false}, 9: {137, 9, false}, 11 | 0x80: {139, 11, true}} {
		e := Exit{Status: status}
		if e.Code() != want.code || e.Signal() != want.signal || e.CoreDumped() != want.core {
			t.Errorf("%#x: %d %d %v", status, e.Code(), e.Signal(), e.CoreDumped())
		}
	}
}

func TestDamagedExitRecordIsRefused(t *testing.T) {
	record := Exit{PID: 5, Status: 256, ExitedAt: 1 << 60, StartError: "two\nlines"}.Append(nil)
	if e, err := ParseExit(string(record)); err != nil || e.StartError != "two lines" {
		t.Fatalf("%+v, %v", e, err)
	}
	for i := range record {
		if _, err := ParseExit(string(record[:i])); err == nil {
			t.Errorf("the first %d bytes were accepted", i)
		}
		bad := bytes.Clone(record)
		bad[i] ^= 1
		if _, err := ParseExit(string(bad)); err == nil {
			t.Errorf("accepted with byte %d changed", i)
		}
	}
}

func TestChecksumIsCastagnoli(t *testing.T) {
	for _, s := range []string{"", "a", "123456789", strings.Repeat("xyz", 999)} {
		if got, want := CRC([]byte(s)), crc32.Checksum([]byte(s), crc32.MakeTable(crc32.Castagnoli)); got != want {
			t.Errorf("%.10q: %#x, want %#x", s, got, want)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add((&Message{Kind: Exec, ID: 1, Flags: FlagAll, Traceparent: "t", Body: []byte("b")}).Append(nil))
	f.Add(AppendString([]byte{1, 2}, 900, "x"))
	f.Fuzz(func(t *testing.T, packet []byte) { // property: what is accepted comes back from its encoding
		var m, again Message
		if m.Parse(packet) != nil {
			return
		}
		if err := again.Parse(m.Append(nil)); err != nil && len(m.Append(nil)) <= MaxPacket || err == nil && !reflect.DeepEqual(normal(m), normal(again)) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

func normal(m Message) Message {
	if len(m.Body) == 0 {
		m.Body = nil
	}
	return m
}

func FuzzConfig(f *testing.F) {
	c := Config{ID: "id", Dir: "/d", Attributes: []Attribute{{"a", "b"}}, LogMaxLine: 5}
	f.Add(c.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) { // property: what is accepted comes back from its encoding
		var c, again Config
		if c.Parse(raw) != nil {
			return
		}
		if err := again.Parse(c.Append(nil)); err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
		var i Info
		var n Counters
		i.Parse(raw) // must not panic
		n.Parse(raw)
	})
}

func FuzzExit(f *testing.F) {
	f.Add(string(Exit{PID: 7, Status: 9, StartError: "why"}.Append(nil)))
	f.Fuzz(func(t *testing.T, record string) { // property: what is accepted comes back from its encoding
		e, err := ParseExit(record)
		if err != nil {
			return
		}
		if again, err := ParseExit(string(e.Append(nil))); err != nil && e.PID > 0 && len(e.StartError) < 2048 || err == nil && again != e {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}
