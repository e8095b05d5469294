package otlp

// ParseTraceparent reads a W3C trace context header, version 00 or a later one's
// beginning:
//
//	00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
//
// ok is false for anything else and for the zero IDs, which are invalid.
func ParseTraceparent(s string) (trace [16]byte, span [8]byte, sampled, ok bool) {
	var version, flags [1]byte
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' ||
		!unhex(version[:], s[0:2]) || !unhex(trace[:], s[3:35]) || !unhex(span[:], s[36:52]) || !unhex(flags[:], s[53:55]) {
		return [16]byte{}, [8]byte{}, false, false
	}
	if version[0] == 0xff || version[0] == 0 && len(s) != 55 || len(s) > 55 && s[55] != '-' || trace == [16]byte{} || span == [8]byte{} {
		return [16]byte{}, [8]byte{}, false, false
	}
	return trace, span, flags[0]&1 != 0, true
}

func unhex(dst []byte, s string) bool {
	for i := range dst {
		hi, lo := digit(s[2*i]), digit(s[2*i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

// digit is above 15 for what is no lower-case hexadecimal digit.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}
