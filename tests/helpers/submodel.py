"""A part of a TFLite model as a model of its own."""

from collections.abc import Callable

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

_BUILTIN_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}


def submodel(content: bytes, keep: Callable[[str], bool]) -> bytes:
    """The operators whose names `keep` accepts: "LceQuantize", "ADD".

    What the others compute for them becomes inputs, and what they compute for the others, or
    for the user of the model, becomes outputs.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]

    def is_inside(operator: schema.OperatorT) -> bool:
        code = model.operatorCodes[operator.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        return keep(code.customCode.decode() if code.customCode else _BUILTIN_NAMES[builtin])

    inside = [operator for operator in graph.operators if is_inside(operator)]
    outside = [operator for operator in graph.operators if not is_inside(operator)]
    written = {index for operator in inside for index in operator.outputs}
    read = {index for operator in inside for index in operator.inputs if index >= 0}
    constants = {
        index
        for index, tensor in enumerate(graph.tensors)
        if model.buffers[tensor.buffer].data is not None
    }
    wanted = {index for operator in outside for index in operator.inputs} | set(graph.outputs)
    graph.operators = inside
    graph.inputs = sorted(read - written - constants)
    graph.outputs = sorted(written & wanted)
    model.signatureDefs = None
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
