//go:build !linux

package clock

func uptime() int64 { return now() }
