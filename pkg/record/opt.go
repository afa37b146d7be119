package record

import (
	"encoding/json"
	"math"
)

// MarshalJSON writes the value, or null where it is absent or not finite.
func (o Opt[T]) MarshalJSON() ([]byte, error) {
	if !o.OK {
		return []byte("null"), nil
	}
	if f, ok := any(o.V).(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return []byte("null"), nil
	}
	return json.Marshal(o.V)
}

// UnmarshalJSON reads a value; null is absent. A whole number written with a
// fraction of zero ("3.0", as pandas does) is taken for an integer.
func (o *Opt[T]) UnmarshalJSON(b []byte) error {
	*o = Opt[T]{}
	if string(b) == "null" {
		return nil
	}
	var v T
	err := json.Unmarshal(b, &v)
	if err != nil {
		var f float64
		if json.Unmarshal(b, &f) != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
			return err
		}
		whole, merr := json.Marshal(int64(f))
		if merr != nil || json.Unmarshal(whole, &v) != nil {
			return err
		}
	}
	*o = Some(v)
	return nil
}
