package report

import (
	"joulepipe/pkg/sensor"
)

// tested is how a channel did in the instrument response test, in words, and
// whether it passed. A mean over long fails by what it is, and is not broken.
func tested(c *sensor.Channel) (verdict string, passed bool) {
	pass, known := c.Pass.Get()
	switch {
	case !known:
		return "not judged" + because(c.Reasons), false
	case pass:
		return "pass", true
	case c.Class == sensor.Averaged:
		return "fail by design: a mean over long", false
	default:
		return "fail" + because(c.Reasons), false
	}
}
