package logfile

// stampLen is the length of a timestamp: RFC 3339 in UTC with nine digits.
const stampLen = len("2006-01-02T15:04:05.000000000Z")

// stamp formats nanoseconds since 1970, remembering the last second.
type stamp struct {
	second int64
	text   [stampLen]byte
}

// set formats now, which must not be negative.
func (s *stamp) set(now int64) {
	second, nano := now/1e9, now%1e9
	if second != s.second || s.text[4] == 0 {
		s.second = second
		s.date(second)
	}
	digits(s.text[20:29], nano)
	s.text[29] = 'Z'
}

func (s *stamp) date(second int64) {
	year, month, day := civil(second / 86400)
	rest := second % 86400
	digits(s.text[0:4], year)
	s.text[4] = '-'
	digits(s.text[5:7], month)
	s.text[7] = '-'
	digits(s.text[8:10], day)
	s.text[10] = 'T'
	digits(s.text[11:13], rest/3600)
	s.text[13] = ':'
	digits(s.text[14:16], rest/60%60)
	s.text[16] = ':'
	digits(s.text[17:19], rest%60)
	s.text[19] = '.'
}

// digits fills dst with the decimal digits of v, zeros in front.
func digits(dst []byte, v int64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + v%10)
		v /= 10
	}
}

// civil turns days since 1970 into a date. It counts in years that begin in March,
// so that the leap day is the last of its year, and in eras of 400 years.
func civil(days int64) (year, month, day int64) {
	days += 719468 // from 0000-03-01
	era, dayOfEra := days/146097, days%146097
	yearOfEra := (dayOfEra - dayOfEra/1460 + dayOfEra/36524 - dayOfEra/146096) / 365
	dayOfYear := dayOfEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	fromMarch := (5*dayOfYear + 2) / 153
	day = dayOfYear - (153*fromMarch+2)/5 + 1
	month = fromMarch + 3
	year = yearOfEra + era*400
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}
