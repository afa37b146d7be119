#!/usr/bin/env bash
# Does nvload infer compute what transformers computes, and how fast? The same
# weights, drawn anew in PyTorch from their definition, and the same tokens: logits
# against float32 and against the same precision, for GPT-2 and a Llama of four
# layers, in both types, with and without cuBLAS, with prompts in one piece and
# in two, and few and many requests at once. Then the speed of the 8B shape beside
# this GPU's, as PyTorch measures it. Needs bin/ and python3 with torch and
# transformers. Every case is tried; the tables are last. A minute and a half.
#
#   infer.sh
#
# KEEP names a folder for the files. BLAS is a path of libcublas, where nvload
# does not find it.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${KEEP:-$(mktemp -d)}
mkdir -p "$out/llama"
[ -n "${KEEP:-}" ] || trap 'rm -rf "$out"' EXIT
blas=${BLAS:-auto}
label() { if [ "$1" = none ]; then echo none; else echo cublas; fi; }

cat >"$out/llama/config.json" <<'JSON'
{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
  "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
  "num_hidden_layers": 4, "max_position_embeddings": 131072, "vocab_size": 128256, "rms_norm_eps": 1e-05,
  "initializer_range": 0.02, "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
  "rope_theta": 500000.0,
  "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
}
JSON

# name, model, type, cuBLAS, batch, context, tokens
cases=(
  "gpt2 gpt2 bf16 $blas 3 70 5"
  "gpt2 gpt2 bf16 none 3 70 5"
  "gpt2 gpt2 f16 $blas 3 70 5"
  "gpt2 gpt2 f16 none 3 70 5"
  "gpt2 gpt2 bf16 none 20 7 3"
  "gpt2 gpt2 bf16 none 1 8 5"
  "llama $out/llama/config.json bf16 $blas 2 333 5"
  "llama $out/llama/config.json bf16 none 2 333 5"
  "llama $out/llama/config.json f16 $blas 2 333 5"
  "llama $out/llama/config.json f16 none 2 333 5"
  "llama $out/llama/config.json bf16 $blas 20 9 3"
  "llama $out/llama/config.json f16 none 1 9001 2"
)
i=0
for c in "${cases[@]}"; do
  read -r name model type lib batch context tokens <<<"$c"
  file=$out/$i.$name.$type.$(label "$lib").$batch.$context.$tokens
  i=$((i + 1))
  bin/nvload infer --device cuda --model "$model" --dtype "$type" --blas "$lib" --batch "$batch" --context "$context" --gen-tokens "$tokens" \
    --reps 1 --warmup 0 --gap 0s --seed $((i + 40)) --logits "$file.safetensors" -o "$file.ndjson" 2>"$file.log" ||
    { echo "case $i ($c): status $?"; cat "$file.log"; }
done
for lib in "$blas" none; do
  bin/nvload infer --device cuda --model llama-3.1-8b --blas "$lib" --batch 1,4 --context 1024,4096 --gen-tokens 64 --reps 3 --warmup 1 --gap 100ms \
    -o "$out/speed.$(label "$lib").ndjson" || echo "speed, cuBLAS $lib: status $?"
done
python3 test/gpu/infer.py "$out"
