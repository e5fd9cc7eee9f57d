"""Real base models: any local `transformers` folder behind the training loop, its adapters, its export."""
