package launch

// A launcher whose GateFD is a socket (SOCK_SEQPACKET) is a spare: it began before anyone
// knew for which container, and its argument only keeps the place of a request's path. One
// packet makes it the launcher of a container, with its descriptors attached in the order
// of their numbers, the pipe that is its gate among them:
//
//	descriptors (1 byte; bit n: the one of number n is attached)   path of the request
//
// A standard stream that is not attached stays what the spare was started with. End of
// file without a packet means that no container came.

// MaxBrief bounds the packet in bytes.
const MaxBrief = 4096

// briefed are the descriptors that a packet may have attached.
const briefed = 1<<0 | 1<<1 | 1<<2 | 1<<ConsoleFD | 1<<ExecFD | 1<<GateFD

// AppendBrief appends the packet behind buf.
func AppendBrief(buf []byte, descriptors uint8, request string) []byte {
	return append(append(buf, descriptors), request...)
}

// ParseBrief is the inverse of AppendBrief; ok is false for bytes that it did not write.
func ParseBrief(packet []byte) (descriptors uint8, request string, ok bool) {
	if len(packet) < 2 || packet[0]&^briefed != 0 {
		return 0, "", false
	}
	return packet[0], string(packet[1:]), true
}
