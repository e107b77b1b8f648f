//! `config.json`, as transformers writes it.

use serde_json::Value;

use super::Facts;

/// Keys that hold the context length, the usual one first.
const CONTEXT_KEYS: [&str; 5] =
    ["max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length"];

/// What a config says; one that makes no sense says nothing.
pub(super) fn learn(facts: &mut Facts, bytes: &[u8]) {
    let Ok(config) = serde_json::from_slice::<Value>(bytes) else { return };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    facts.architecture = text(&config["architectures"][0]).or(facts.architecture.take());
    facts.model_type = text(&config["model_type"]);
    facts.dtype = text(&config["torch_dtype"]).or_else(|| text(&config["dtype"]));
    facts.quantization = text(&config["quantization_config"]["quant_method"]);
    // Models that also see or hear keep what concerns text apart.
    let parts = [&config, &config["text_config"]];
    let lengths = parts.iter().flat_map(|part| CONTEXT_KEYS.iter().map(|key| &part[*key]));
    facts.context_length = lengths.filter_map(Value::as_u64).next();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_what_is_there() {
        let config = br#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","torch_dtype":"bfloat16",
            "text_config":{"max_position_embeddings":4096},"quantization_config":{"quant_method":"gptq"}}"#;
        let mut facts = Facts::default();
        learn(&mut facts, config);
        let expected = Facts {
            architecture: Some("LlamaForCausalLM".into()),
            model_type: Some("llama".into()),
            dtype: Some("bfloat16".into()),
            quantization: Some("gptq".into()),
            context_length: Some(4096),
            ..Facts::default()
        };
        assert_eq!(facts, expected);
        let mut facts = Facts::default();
        learn(&mut facts, b"[");
        assert_eq!(facts, Facts::default());
    }
}
