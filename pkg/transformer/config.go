package transformer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"joulepipe/pkg/record"
)

// config is a model's config.json as Hugging Face's transformers write it, as
// far as it has to do with the arithmetic.
type config struct {
	ModelType string `json:"model_type"`
	Name      string `json:"_name_or_path"`

	// gpt2
	NLayer         int     `json:"n_layer"`
	NEmbd          int     `json:"n_embd"`
	NHead          int     `json:"n_head"`
	NInner         int     `json:"n_inner"`
	NPositions     int     `json:"n_positions"`
	LayerNormEps   float64 `json:"layer_norm_epsilon"`
	Activation     string  `json:"activation_function"`
	ScaleAttention *bool   `json:"scale_attn_weights"`
	ScaleByLayer   bool    `json:"scale_attn_by_inverse_layer_idx"`

	// llama, mistral, qwen2
	Layers        int          `json:"num_hidden_layers"`
	Width         int          `json:"hidden_size"`
	Heads         int          `json:"num_attention_heads"`
	KVHeads       int          `json:"num_key_value_heads"`
	HeadDim       int          `json:"head_dim"`
	FF            int          `json:"intermediate_size"`
	Positions     int          `json:"max_position_embeddings"`
	RMSNormEps    float64      `json:"rms_norm_eps"`
	Act           string       `json:"hidden_act"`
	AttentionBias bool         `json:"attention_bias"`
	MLPBias       bool         `json:"mlp_bias"`
	RopeTheta     float64      `json:"rope_theta"`
	RopeScaling   *ropeScaling `json:"rope_scaling"`
	Rope          *ropeScaling `json:"rope_parameters"` // both in one, since transformers 5
	SlidingWindow int          `json:"sliding_window"`
	UseSliding    bool         `json:"use_sliding_window"`

	Vocab   int      `json:"vocab_size"`
	InitStd *float64 `json:"initializer_range"`
	Tied    *bool    `json:"tie_word_embeddings"`
}

type ropeScaling struct {
	Type     string  `json:"rope_type"`
	OldType  string  `json:"type"`
	Theta    float64 `json:"rope_theta"`
	Factor   float64 `json:"factor"`
	LowFreq  float64 `json:"low_freq_factor"`
	HighFreq float64 `json:"high_freq_factor"`
	Original int     `json:"original_max_position_embeddings"`
}

// Read reads a shape from a config.json of Hugging Face's transformers, as it
// stands, of the model types gpt2, llama, mistral and qwen2. What is left out has
// the default of transformers. The name of the file, or of its folder if
// that is config.json, names the shape; it is in errors, too. A model whose
// arithmetic would be another is refused.
func Read(r io.Reader, file string) (Shape, error) {
	s, err := read(r, file)
	if err == nil {
		err = s.check()
	}
	if syntax := (*record.SyntaxError)(nil); err != nil && !errors.As(err, &syntax) {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return s, err
}

func read(r io.Reader, file string) (Shape, error) {
	b, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return Shape{}, err
	}
	var c config
	if err := json.Unmarshal(b, &c); err != nil {
		return Shape{}, malformed(file, b, err)
	}
	name := filepath.Base(file)
	if name == "config.json" {
		if folder, err := filepath.Abs(file); err == nil {
			name = filepath.Base(filepath.Dir(folder))
		}
	}
	name = strings.TrimSuffix(name, ".json")
	switch c.ModelType {
	case "gpt2":
		return c.gpt2(name)
	case "llama", "mistral", "qwen2":
		return c.llama(name)
	case "":
		return Shape{}, errors.New("no model_type: not a config.json of a model")
	}
	return Shape{}, fmt.Errorf("model_type %q is not supported (gpt2, llama, mistral, qwen2)", c.ModelType)
}

// std is the standard deviation of the weights.
func (c *config) std() float64 {
	if c.InitStd == nil {
		return 0.02
	}
	return *c.InitStd
}

func (c *config) gpt2(name string) (Shape, error) {
	switch {
	case c.Activation != "" && c.Activation != "gelu_new" && c.Activation != "gelu_pytorch_tanh":
		return Shape{}, fmt.Errorf("activation_function %q is not supported (gelu_new)", c.Activation)
	case c.ScaleByLayer || c.ScaleAttention != nil && !*c.ScaleAttention:
		return Shape{}, errors.New("another scaling of attention than 1/√d is not supported")
	}
	s := gpt2(name, cmp.Or(c.NLayer, 12), cmp.Or(c.NEmbd, 768), max(1, cmp.Or(c.NHead, 12)))
	s.FF = cmp.Or(c.NInner, s.FF)
	s.Vocab = cmp.Or(c.Vocab, s.Vocab)
	s.Window = cmp.Or(c.NPositions, s.Window)
	s.Eps = cmp.Or(c.LayerNormEps, s.Eps)
	s.InitStd = c.std()
	s.Tied = c.Tied == nil || *c.Tied
	if s.HeadDim*s.Heads != s.Width {
		return Shape{}, fmt.Errorf("n_embd %d is no multiple of n_head %d", s.Width, s.Heads)
	}
	return s, nil
}

func (c *config) llama(name string) (Shape, error) {
	if c.Act != "" && c.Act != "silu" {
		return Shape{}, fmt.Errorf("hidden_act %q is not supported (silu)", c.Act)
	}
	// The defaults of transformers are a different model for each type; a file
	// that has not even these is none.
	if c.Layers == 0 || c.Width == 0 || c.Heads == 0 || c.FF == 0 || c.Vocab == 0 || c.Positions == 0 {
		return Shape{}, errors.New("num_hidden_layers, hidden_size, num_attention_heads, intermediate_size, vocab_size and max_position_embeddings are wanted")
	}
	s := Shape{
		Name: name, Family: Llama, Layers: c.Layers, Width: c.Width, Heads: c.Heads,
		KVHeads: cmp.Or(c.KVHeads, c.Heads), FF: c.FF, Vocab: c.Vocab, Window: c.Positions,
		Eps: cmp.Or(c.RMSNormEps, 1e-6), InitStd: c.std(), Tied: c.Tied != nil && *c.Tied,
		Bias: Bias{QKV: c.AttentionBias || c.ModelType == "qwen2", Out: c.AttentionBias, MLP: c.MLPBias},
	}
	s.HeadDim = c.HeadDim
	if s.HeadDim == 0 && s.Heads > 0 {
		s.HeadDim = s.Width / s.Heads
	}
	// Within a sliding window attention is what it is without.
	if c.SlidingWindow > 0 && (c.UseSliding || c.ModelType == "mistral") {
		s.Window = min(s.Window, c.SlidingWindow)
	}
	rope := c.RopeScaling
	if c.Rope != nil {
		rope = c.Rope
	}
	s.Rotary.Theta = cmp.Or(c.RopeTheta, 10000)
	if rope == nil {
		return s, nil
	}
	s.Rotary.Theta = cmp.Or(rope.Theta, s.Rotary.Theta)
	switch kind := cmp.Or(rope.Type, rope.OldType, "default"); kind {
	case "default":
	case "llama3":
		s.Rotary.Factor, s.Rotary.LowFreq, s.Rotary.HighFreq, s.Rotary.Original = rope.Factor, rope.LowFreq, rope.HighFreq, rope.Original
		if rope.Factor <= 0 {
			return Shape{}, fmt.Errorf("a rope factor of %v: want more than 0", rope.Factor)
		}
	default:
		return Shape{}, fmt.Errorf("rotary positions of type %q are not supported (default, llama3)", kind)
	}
	return s, nil
}

// malformed is what is wrong with a file that is not the JSON it should be.
func malformed(file string, b []byte, err error) error {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	var offset int64
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &wrong):
		offset = wrong.Offset
	}
	before := b[:min(max(0, offset-1), int64(len(b)))]
	line := bytes.LastIndexByte(before, '\n') + 1
	return &record.SyntaxError{
		File: file, Line: int64(1 + bytes.Count(before, []byte{'\n'})), Column: 1 + len(before) - line,
		Msg: "not a config.json: " + err.Error(), Hint: "want the config.json of a model as Hugging Face's transformers write it",
	}
}
