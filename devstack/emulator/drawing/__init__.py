"""Pictures from words: a pure plan (palette, scene, numbers) from a hash, then Pillow draws it."""
