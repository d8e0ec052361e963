package segment

// A timePattern is a way to write a time in RFC 3339, in UTC with 'Z'.
type timePattern uint8

const (
	timeTrimmed timePattern = 0 // fraction of up to nine digits without zeros at its end, as Go writes it
	timeSeconds timePattern = 1 // no fraction
	timeMilli   timePattern = 2 // three digits
	timeMicro   timePattern = 3 // six
	timeNano    timePattern = 4 // nine

	timePatterns = 5
)

var timeDigits = [timePatterns]int{timeSeconds: 0, timeMilli: 3, timeMicro: 6, timeNano: 9}

// unit is the finest step of the pattern in nanoseconds.
func (p timePattern) unit() int64 {
	switch p {
	case timeSeconds:
		return 1e9
	case timeMilli:
		return 1e6
	case timeMicro:
		return 1e3
	}
	return 1
}

// timePatternOf guesses the pattern by the length.
func timePatternOf(v []byte) (timePattern, bool) {
	switch len(v) {
	case 20:
		return timeSeconds, true
	case 24:
		return timeMilli, true
	case 27:
		return timeMicro, true
	case 30:
		return timeNano, true
	}
	return timeTrimmed, len(v) > 20 && len(v) < 30
}

// parse reads a time that the pattern writes in just this way.
func (p timePattern) parse(v []byte) (int64, bool) {
	if len(v) < 20 || len(v) > 30 || v[4] != '-' || v[7] != '-' || v[10] != 'T' || v[13] != ':' || v[16] != ':' || v[len(v)-1] != 'Z' {
		return 0, false
	}
	year, ok1 := number(v[0:4])
	month, ok2 := number(v[5:7])
	day, ok3 := number(v[8:10])
	hour, ok4 := number(v[11:13])
	minute, ok5 := number(v[14:16])
	second, ok6 := number(v[17:19])
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6) || year < 1700 || year > 2200 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	fraction := v[19 : len(v)-1]
	var nanos int64
	if len(fraction) > 0 {
		if fraction[0] != '.' || len(fraction) == 1 || len(fraction) > 10 {
			return 0, false
		}
		f, ok := number(fraction[1:])
		if !ok {
			return 0, false
		}
		nanos = int64(f)
		for k := len(fraction) - 1; k < 9; k++ {
			nanos *= 10
		}
	}
	switch p {
	case timeTrimmed:
		if len(fraction) > 0 && fraction[len(fraction)-1] == '0' {
			return 0, false
		}
	default:
		want := timeDigits[p]
		if want > 0 {
			want++
		}
		if len(fraction) != want {
			return 0, false
		}
	}
	return (daysSince1970(year, month, day)*86400+int64(hour*3600+minute*60+second))*1e9 + nanos, true
}

// append writes a time.
func (p timePattern) append(dst []byte, t int64) []byte {
	seconds, nanos := t/1e9, t%1e9
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+1e9
	}
	days, rest := seconds/86400, seconds%86400
	if rest < 0 {
		days, rest = days-1, rest+86400
	}
	year, month, day := dateOf(days)
	dst = digits(dst, int64(year), 4)
	dst = append(dst, '-')
	dst = digits(dst, int64(month), 2)
	dst = append(dst, '-')
	dst = digits(dst, int64(day), 2)
	dst = append(dst, 'T')
	dst = digits(dst, rest/3600, 2)
	dst = append(dst, ':')
	dst = digits(dst, rest/60%60, 2)
	dst = append(dst, ':')
	dst = digits(dst, rest%60, 2)
	n := timeDigits[p]
	if p == timeTrimmed && nanos > 0 {
		for n = 9; nanos%10 == 0; n-- {
			nanos /= 10
		}
	} else {
		for k := n; k < 9; k++ {
			nanos /= 10
		}
	}
	if n > 0 {
		dst = append(dst, '.')
		dst = digits(dst, nanos, n)
	}
	return append(dst, 'Z')
}

// digits writes the last n decimal digits of v.
func digits(dst []byte, v int64, n int) []byte {
	at := len(dst)
	for range n {
		dst = append(dst, 0)
	}
	for i := n - 1; i >= 0; i-- {
		dst[at+i] = byte('0' + v%10)
		v /= 10
	}
	return dst
}

// number reads up to 18 digits.
func number(v []byte) (int, bool) {
	x := 0
	for _, d := range v {
		if d -= '0'; d > 9 {
			return 0, false
		}
		x = x*10 + int(d)
	}
	return x, true
}

var daysOfMonth = [13]int{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

func daysIn(year, month int) int {
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		return 29
	}
	return daysOfMonth[month]
}

// daysSince1970 and dateOf convert between dates of the proleptic Gregorian calendar and
// days, by counting in eras of 400 years that begin in March.
func daysSince1970(year, month, day int) int64 {
	y, m := int64(year), int64(month)
	if m <= 2 {
		y--
		m += 12
	}
	era := y / 400
	yearOfEra := y - era*400
	dayOfYear := (153*(m-3)+2)/5 + int64(day) - 1
	return era*146097 + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - 719468
}

func dateOf(days int64) (year, month, day int) {
	z := days + 719468
	era := z / 146097
	if z < 0 {
		era = (z - 146096) / 146097
	}
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy - (153*mp+2)/5 + 1)
	month = int(mp + 3)
	year = int(yoe + era*400)
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}
