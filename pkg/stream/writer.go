package stream

import (
	"io"

	"github.com/klauspost/compress/zstd"
)

func newWriter(w io.Writer, f Format, c Compression) (Writer, error) {
	if _, err := ParseCompression(string(c)); err != nil {
		return nil, err
	}
	var enc *zstd.Encoder
	if c == Zstd {
		var err error
		enc, err = zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		w = enc
	}
	var out Writer
	switch f {
	case NDJSON:
		out = newNDJSONWriter(w)
	case Arrow:
		out = newArrowWriter(w)
	case CSV:
		out = newCSVWriter(w)
	default:
		_, err := ParseFormat(string(f))
		return nil, err
	}
	if enc != nil {
		return &compressed{out, enc}, nil
	}
	return out, nil
}
