"""What attacks share: tokens and their gradients, directions, target pictures, adapters, wordings, effort."""
