"""A form with every kind of question, for the tests of forms and readings."""

from __future__ import annotations

from typing import Any

from overread.validation.forms import Form

EVERYTHING: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Hips and more",
    "description": "Look at both sides.",
    "type": "object",
    "required": ["progression", "hips"],
    "properties": {
        "progression": {
            "title": "Does this exam show progression?",
            "oneOf": [
                {"const": "yes", "title": "Yes"},
                {"const": "no", "title": "No"},
                {"const": "unclear", "title": "Cannot tell"},
            ],
        },
        "why": {"title": "Why can you not tell?", "type": "string", "maxLength": 200},
        "signs": {
            "title": "Signs",
            "type": "array",
            "items": {"enum": ["growth", "new lesion", "oedema"]},
            "minItems": 1,
            "maxItems": 2,
        },
        "quality": {
            "title": "The segmentation is",
            "type": "integer",
            "minimum": 1,
            "maximum": 5,
        },
        "volume": {"title": "Volume", "type": "number", "minimum": 0, "maximum": 500},
        "count": {"title": "Lesions", "type": "integer", "minimum": 0},
        "agree": {"title": "Do you agree?", "type": "boolean"},
        "seen_on": {"title": "First seen", "type": "string", "format": "date"},
        "hips": {
            "title": "Each hip",
            "type": "object",
            "additionalProperties": {"$ref": "#/$defs/hip"},
        },
        "segments": {
            "title": "Each segment",
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"seconds": {"title": "Time", "type": "number", "minimum": 0}},
            },
        },
        "where": {"title": "Mark the fracture", "type": "object"},
        "extent": {"title": "Mark its extent", "type": "object"},
        "comment": {"title": "Anything else?", "type": "string"},
    },
    "$defs": {
        "hip": {
            "type": "object",
            "required": ["finding"],
            "properties": {
                "finding": {"title": "Finding", "enum": ["normal", "fracture", "hardware"]},
                "sure": {"title": "Sure?", "type": "boolean"},
            },
        }
    },
    "if": {"properties": {"agree": {"const": False}}, "required": ["agree"]},
    "then": {"required": ["comment"]},
    "dependentRequired": {"count": ["volume"]},
    "ui": {
        "sections": [
            {"title": "Progression", "fields": ["progression", "why", "signs"]},
            {
                "title": "The rest",
                "help": "As well as you can.",
                "fields": [
                    "quality", "volume", "count", "agree", "seen_on", "hips", "segments",
                    "where", "extent", "comment",
                ],
            },
        ],
        "fields": {
            "why": {"show_if": {"progression": "unclear"}, "lines": 2},
            "quality": {"as": "likert", "low": "useless", "high": "as I would draw it"},
            "volume": {"unit": "mL", "step": 0.1},
            "hips": {"rows": ["left hip", "right hip"]},
            "segments": {"rows": "segments", "columns": {"seconds": {"unit": "s"}}},
            "where": {"as": "mark"},
            "extent": {"as": "mark", "shape": "box"},
        },
    },
}  # fmt: skip

FORM = Form("everything", EVERYTHING)

GOOD: dict[str, Any] = {
    "progression": "yes",
    "hips": {"left hip": {"finding": "normal"}, "right hip": {"finding": "fracture", "sure": True}},
}
"""Answers that can be submitted."""
