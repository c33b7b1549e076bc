"""The todo list of a run: part of its checkpoint, changed only by its own tool calls."""

from perstack.models import FrozenModel


class Todo(FrozenModel):
    """One item. Ids count from 0 and stay unique until the list is cleared."""

    id: int
    title: str
    completed: bool = False


class TodoList(FrozenModel):
    """All items, in the order they were added."""

    todos: tuple[Todo, ...] = ()

    @property
    def remaining(self) -> tuple[Todo, ...]:
        """The items still open; a run cannot complete while there are any."""
        return tuple(todo for todo in self.todos if not todo.completed)

    def add(self, titles: tuple[str, ...]) -> "TodoList":
        """A list with `titles` appended as open items."""
        first = len(self.todos)
        added = tuple(Todo(id=first + offset, title=title) for offset, title in enumerate(titles))
        return TodoList(todos=self.todos + added)

    def complete(self, ids: tuple[int, ...]) -> "TodoList":
        """A list in which the items with these ids are done; unknown ids are ignored."""
        return TodoList(
            todos=tuple(
                todo.model_copy(update={"completed": True}) if todo.id in ids else todo
                for todo in self.todos
            )
        )
