package transformer

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"joulepipe/pkg/record"
)

// The numbers of weights as the models' authors give them.
func TestParams(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int64{
		"gpt2": 124439808, "gpt2-medium": 354823168, "gpt2-large": 774030080, "gpt2-xl": 1557611200,
		"llama-3.1-8b": 8030261248,
	} {
		s, err := Find(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := s.Params(); got != want {
			t.Errorf("%s has %d weights, not %d", name, got, want)
		}
		if err := s.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Find("gpt5"); err == nil || !strings.Contains(err.Error(), "gpt2-xl") {
		t.Errorf("%v", err)
	}
}

const llama31 = `{
  "architectures": ["LlamaForCausalLM"],
  "attention_bias": false,
  "bos_token_id": 128000,
  "eos_token_id": 128001,
  "hidden_act": "silu",
  "hidden_size": 4096,
  "initializer_range": 0.02,
  "intermediate_size": 14336,
  "max_position_embeddings": 131072,
  "mlp_bias": false,
  "model_type": "llama",
  "num_attention_heads": 32,
  "num_hidden_layers": 32,
  "num_key_value_heads": 8,
  "pretraining_tp": 1,
  "rms_norm_eps": 1e-05,
  "rope_scaling": {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3"
  },
  "rope_theta": 500000.0,
  "tie_word_embeddings": false,
  "torch_dtype": "bfloat16",
  "use_cache": true,
  "vocab_size": 128256
}`

// What a model's own file says is what its name stands for.
func TestReadPresets(t *testing.T) {
	t.Parallel()
	parameters := strings.Replace(strings.Replace(llama31, `"rope_theta": 500000.0,`, "", 1),
		`"rope_scaling": {`, `"rope_parameters": {"rope_theta": 500000.0,`, 1)
	for _, c := range []struct{ name, text string }{
		{"llama-3.1-8b", llama31},
		{"llama-3.1-8b", parameters},
		{"gpt2", `{"model_type": "gpt2", "activation_function": "gelu_new", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
			"n_layer": 12, "n_positions": 1024, "layer_norm_epsilon": 1e-05, "initializer_range": 0.02, "vocab_size": 50257}`},
		{"gpt2", `{"model_type": "gpt2"}`},
		{"gpt2-xl", `{"model_type": "gpt2", "n_embd": 1600, "n_head": 25, "n_layer": 48, "n_inner": null}`},
	} {
		want, err := Find(c.name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Read(strings.NewReader(c.text), "models/"+c.name+"/config.json")
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n%+v\n%+v", c.name, err, got, want)
		}
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	const base = `"num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2,
		"intermediate_size": 512, "vocab_size": 1000, "max_position_embeddings": 4096`
	for _, c := range []struct {
		name, text string
		check      func(Shape) bool
	}{
		{"qwen2", `{"model_type": "qwen2", ` + base + `, "rope_theta": 1e6, "tie_word_embeddings": true, "sliding_window": 1024, "use_sliding_window": false}`,
			func(s Shape) bool {
				return s.Bias == Bias{QKV: true} && s.Tied && s.Window == 4096 && s.Rotary.Theta == 1e6 && s.HeadDim == 64
			}},
		{"mistral", `{"model_type": "mistral", ` + base + `, "sliding_window": 1024, "head_dim": 128}`,
			func(s Shape) bool {
				return s.Window == 1024 && s.HeadDim == 128 && s.Rotary.Theta == 10000 && s.Eps == 1e-6
			}},
		{"biases", `{"model_type": "llama", ` + base + `, "attention_bias": true, "mlp_bias": true, "initializer_range": 0.05}`,
			func(s Shape) bool { return s.Bias == Bias{true, true, true} && s.InitStd == 0.05 && !s.Tied }},
	} {
		s, err := Read(strings.NewReader(c.text), c.name+".json")
		if err != nil || s.Name != c.name || !c.check(s) {
			t.Errorf("%s: %v %+v", c.name, err, s)
		}
	}
	for _, c := range []struct{ name, text, want string }{
		{"not JSON", "{\n \"model_type\": llama}", ":2:16: not a config.json"},
		{"wrong type", `{"n_layer": "twelve"}`, ":1:"},
		{"no model", `{"record": "event"}`, "no model_type"},
		{"unknown", `{"model_type": "mamba"}`, `"mamba" is not supported (gpt2, llama, mistral, qwen2)`},
		{"other GELU", `{"model_type": "gpt2", "activation_function": "relu"}`, `"relu" is not supported`},
		{"other scale", `{"model_type": "gpt2", "scale_attn_weights": false}`, "scaling of attention"},
		{"uneven heads", `{"model_type": "gpt2", "n_head": 7}`, "no multiple of n_head"},
		{"small heads", `{"model_type": "gpt2", "n_embd": 64, "n_head": 4}`, "heads of 16 numbers"},
		{"negative heads", `{"model_type": "gpt2", "n_head": -1}`, "numbers"},
		{"negative layers", `{"model_type": "gpt2", "n_layer": -1}`, "-1 layers"},
		{"nothing but a type", `{"model_type": "llama"}`, "num_hidden_layers"},
		{"yarn", `{"model_type": "llama", ` + base + `, "rope_scaling": {"type": "yarn", "factor": 4}}`, `"yarn" are not supported`},
		{"no factor", `{"model_type": "llama", ` + base + `, "rope_scaling": {"rope_type": "llama3"}}`, "factor"},
		{"no order", `{"model_type": "llama", ` + base + `, "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1, "original_max_position_embeddings": 8}}`, "high_freq_factor"},
		{"odd sharing", `{"model_type": "llama", ` + strings.Replace(base, `"num_key_value_heads": 2`, `"num_key_value_heads": 3`, 1) + `}`, "want a multiple"},
		{"activation", `{"model_type": "llama", ` + base + `, "hidden_act": "gelu"}`, `"gelu" is not supported`},
	} {
		_, err := Read(strings.NewReader(c.text), "m.json")
		var syntax *record.SyntaxError
		if err == nil || !strings.HasPrefix(err.Error(), "m.json:") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		} else if errors.As(err, &syntax) != strings.Contains(err.Error(), "not a config.json:") {
			t.Errorf("%s: %#v", c.name, err)
		}
	}
}

// Llama 3.1's frequencies: the fast planes as they were, the slow ones an eighth,
// the ones between as transformers has them.
func TestFrequencies(t *testing.T) {
	t.Parallel()
	s, err := Find("llama-3.1-8b")
	if err != nil {
		t.Fatal(err)
	}
	f := s.Rotary.Frequencies(128)
	for i, got := range f {
		plain := math.Pow(500000, -float64(2*i)/128)
		wave := 2 * math.Pi / plain
		want := plain
		switch {
		case wave > 8192:
			want /= 8
		case wave > 2048:
			smooth := (8192/wave - 1) / 3
			want = (1-smooth)*plain/8 + smooth*plain
		}
		if math.Abs(float64(got)-want) > 1e-6*want {
			t.Errorf("plane %d: %g, want %g", i, got, want)
		}
	}
	if plain := (Rotary{Theta: 10000}).Frequencies(64); len(plain) != 32 || plain[0] != 1 || math.Abs(float64(plain[16])-0.01) > 1e-9 {
		t.Errorf("%v", plain)
	}
}

// A token of the 8B model costs two operations a weight, and its weights are
// read once a step.
func TestWork(t *testing.T) {
	t.Parallel()
	s, err := Find("llama-3.1-8b")
	if err != nil {
		t.Fatal(err)
	}
	const matrices = 8030261248 - 128256*4096 - 65*4096 // no embeddings, no norms
	one := s.DecodeWork(1, 0, 1)
	if want := 2.0*matrices + 4*32*4096; one.FLOPs != want || one.WeightBytes != 2*matrices || one.KVBytes != 131072 {
		t.Errorf("%+v", one)
	}
	// Steps one by one are what all are together.
	var sum Work
	for i := range 7 {
		w := s.DecodeWork(3, 100+i, 1)
		sum.FLOPs += w.FLOPs
		sum.WeightBytes += w.WeightBytes
		sum.KVBytes += w.KVBytes
	}
	if all := s.DecodeWork(3, 100, 7); all != sum {
		t.Errorf("%+v, in steps %+v", all, sum)
	}
	// A prompt is what its tokens are one by one, but for the logits and the
	// weights, which are read but once.
	sum = Work{}
	for i := range 9 {
		w := s.DecodeWork(2, i, 1)
		sum.FLOPs += w.FLOPs
	}
	sum.FLOPs -= 8 * 2 * 2 * 128256 * 4096
	p := s.PrefillWork(2, 9)
	if math.Abs(p.FLOPs-sum.FLOPs) > 1e-9*sum.FLOPs || p.WeightBytes != 2*matrices || p.KVBytes != 18*131072 {
		t.Errorf("%+v, in steps %+v", p, sum)
	}
}

// Numbers of a tensor are uniform about 0, and its seed is its own.
func TestWeights(t *testing.T) {
	t.Parallel()
	s, err := Find("gpt2")
	if err != nil {
		t.Fatal(err)
	}
	all := s.Weights(3)
	if len(all) != 2+12*12+2 || all[5].Name != "layer 0 attention qkv.bias" || all[5].Seed != 3<<32+5 || all[2].HalfWidth != 0 {
		t.Errorf("%d tensors, %+v", len(all), all[5])
	}
	for _, tensor := range all[:2] {
		var sum, squares float64
		const n = 100000
		for i := range int64(n) {
			v := float64(uniform(tensor.Seed, i, tensor.HalfWidth))
			sum += v
			squares += v * v
		}
		if mean, std := sum/n, math.Sqrt(squares/n); math.Abs(mean) > 3e-4 || math.Abs(std-0.02) > 2e-4 {
			t.Errorf("%s: %g ± %g", tensor.Name, mean, std)
		}
	}
	// The first output of splitmix64 of seed 0, by its definition.
	if got, want := uniform(0, 0, 1), float32(2*(float64(uint64(0xE220A8397B1DCDAF)>>40)/(1<<24))-1); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}
