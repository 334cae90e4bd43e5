package xdsconfig

import (
	"strconv"
	"strings"
	"time"
)

// timeSpecs are the conversions of strftime that Envoy's START_TIME is used
// with, as layouts of package time; empty: made by appendTime itself.
var timeSpecs = map[string]string{
	"%Y": "2006", "%y": "06", "%m": "01", "%d": "02", "%e": "_2", "%j": "002",
	"%H": "15", "%I": "03", "%M": "04", "%S": "05", "%p": "PM",
	"%F": "2006-01-02", "%T": "15:04:05", "%D": "01/02/06", "%R": "15:04",
	"%a": "Mon", "%A": "Monday", "%b": "Jan", "%h": "Jan", "%B": "January",
	"%z": "-0700", "%Z": "MST",
	"%E3S": "05.000", "%E6S": "05.000000", "%E9S": "05.000000000",
	"%s": "", "%3f": "", "%6f": "", "%9f": "", "%f": "", "%%": "",
}

// cutTimeSpec returns the conversion at the start of s, which begins with a
// percent sign.
func cutTimeSpec(s string) string {
	for n := 2; n <= 4 && n <= len(s); n++ {
		if _, ok := timeSpecs[s[:n]]; ok {
			return s[:n]
		}
	}
	return ""
}

// checkTimeFormat returns the first conversion that appendTime does not know.
func checkTimeFormat(format string) string {
	for {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			return ""
		}
		spec := cutTimeSpec(format[i:])
		if spec == "" {
			return format[i:min(i+2, len(format))]
		}
		format = format[i+len(spec):]
	}
}

// appendTime appends t in a format.
func appendTime(dst []byte, format string, t time.Time) []byte {
	for format != "" {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			return append(dst, format...)
		}
		dst, format = append(dst, format[:i]...), format[i:]
		spec := cutTimeSpec(format)
		if spec == "" { // not known: left as it is
			dst, format = append(dst, '%'), format[1:]
			continue
		}
		format = format[len(spec):]
		switch spec {
		case "%%":
			dst = append(dst, '%')
		case "%s":
			dst = strconv.AppendInt(dst, t.Unix(), 10)
		case "%3f":
			dst = append(dst, t.Format(".000")[1:]...)
		case "%6f":
			dst = append(dst, t.Format(".000000")[1:]...)
		case "%9f", "%f":
			dst = append(dst, t.Format(".000000000")[1:]...)
		default:
			dst = t.AppendFormat(dst, timeSpecs[spec])
		}
	}
	return dst
}
